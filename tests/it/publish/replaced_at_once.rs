//! Several who replace one image in another Region at once.

use serde_json::{Value, json};

use super::replaced::{FAR, recipe, there};
use super::{arch, tags};
use crate::bake_ec2::Builder;
use crate::support::standin::{Options, REGION, Standin};

fn id(image: &Value) -> String {
    image["ImageId"].as_str().unwrap().to_owned()
}

/// A call elsewhere, the `nth`, held before or after it is carried out.
fn call(action: &str, nth: u32, when: &str) -> Value {
    json!({"action": action, "on": nth, "when": when, "region": FAR})
}

/// Asserts that a copy of an image has the name elsewhere, alone, and that the parameter says it.
#[track_caller]
fn stands(standin: &Standin, image: &str, told: &str) {
    let (found, images, _) = there(standin, FAR, "web");
    let found = found.unwrap_or_else(|| panic!("nobody has the name: {told}"));
    assert_eq!((tags(&found)["bakehouse:source"], images), (image, 1), "{told}");
    assert_eq!(found["State"], "available", "{told}");
    let parameter = &standin.state_of(FAR)["parameters"][format!("/images/web/{}", arch())];
    assert_eq!(*parameter, found["ImageId"], "{told}");
}

#[test]
fn an_image_that_is_replaced_at_home_while_it_is_copied_takes_nobodys_place() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", recipe("replace"));
    let bake = ["bake", "recipe.toml", "--force"];
    bakery.bakehouse(&bake).good();
    // Its copy is under way; it is complete, and what is left is to take the place.
    for (action, when) in [("CopyImage", "after"), ("RegisterImage", "before")] {
        let mut newer = None;
        let ran = builder.while_held(call(action, 1, when), &bake, || {
            newer = Some(bakery.bakehouse(&bake).id());
        });
        standin.clear_faults();
        let newer = newer.unwrap();
        let told = ran.told();
        assert_eq!(ran.status, Some(12), "{told}");
        let now = format!("{newer} has the name web in {REGION} now");
        for words in [&now, "takes nobody's place", "bake again"] {
            assert!(ran.err.contains(words), "{words}: {told}");
        }
        stands(standin, &newer, &told);
        assert_eq!(id(&there(standin, REGION, "web").0.unwrap()), newer);
        assert_eq!(there(standin, FAR, "web").2, 1, "the older one's copy is gone, the newer one's stands");
    }
    bakery.assert_nothing_left();
}

#[test]
fn one_that_takes_the_name_elsewhere_while_nobody_has_it_is_replaced_too() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    bakery.put("recipe.toml", recipe("replace"));
    let image = bakery.bakehouse(&["bake", "recipe.toml", "--no-publish"]).id();
    for (action, nth, protected) in
        [("CopyImage", 1, false), ("RegisterImage", 2, false), ("RegisterImage", 2, true)]
    {
        if let Some(old) = there(standin, FAR, "web").0 {
            standin.forget_image_in(FAR, &id(&old));
        }
        let publish = ["publish", &*image, "--recipe", "recipe.toml"];
        let mut other = None;
        let ran = builder.while_held(call(action, nth, "before"), &publish, || {
            let mut about = json!({"name": "web", "region": FAR});
            if protected {
                about["protection"] = json!("enabled-without-cooldown");
            }
            other = Some(standin.seed(disk.path(), about).0);
        });
        standin.clear_faults();
        let (other, told) = (other.unwrap(), format!("{action}: {}", ran.told()));
        if protected {
            assert_eq!(ran.status, Some(13), "{told}");
            assert!(
                ran.err.contains(&format!("taken by {other} in {FAR}, which cannot be replaced")),
                "{told}"
            );
            assert_eq!(id(&there(standin, FAR, "web").0.unwrap()), other, "{told}");
        } else {
            assert!(ran.good().err.contains(&format!("{other} had the name web")), "{told}");
            stands(standin, &image, &told);
        }
    }
    bakery.assert_nothing_left();
}

#[test]
fn an_image_that_is_published_twice_at_once_takes_the_place_once() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    bakery.put("recipe.toml", recipe("replace"));
    let image = bakery.bakehouse(&["bake", "recipe.toml", "--no-publish"]).id();
    let publish = ["publish", &*image, "--recipe", "recipe.toml", "--force", "--deadline", "visible=2s"];
    for (action, nth, when) in [
        ("CopyImage", 1, "before"),
        // The other one is through with the copy, and lets it go.
        ("CopyImage", 1, "after"),
        ("RegisterImage", 1, "before"),
        ("DeregisterImage", 1, "before"),
        ("RegisterImage", 2, "before"),
        ("DeregisterImage", 2, "before"),
    ] {
        let (last, _, snapshots) = there(standin, FAR, "web");
        if let Some(last) = last {
            standin.forget_image_in(FAR, &id(&last));
        }
        standin.seed(disk.path(), json!({"name": "web", "region": FAR}));
        let ran = builder.while_held(call(action, nth, when), &publish, || {
            bakery.bakehouse(&publish).good();
        });
        standin.clear_faults();
        let told = format!("{action} {nth} {when}: {}", ran.told());
        assert_eq!(ran.status, Some(0), "{told}");
        stands(standin, &image, &told);
        assert_eq!(there(standin, FAR, "web").2, snapshots + 1, "one copy's snapshot: {told}");
    }
    bakery.assert_nothing_left();
}
