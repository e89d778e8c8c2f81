//! What others do in another Region while an image is replaced there, and what EC2 leaves of the old image.

use serde_json::{Value, json};

use super::replaced::{FAR, recipe, there};
use super::{arch, tags};
use crate::bake_ec2::Builder;
use crate::support::bakery::Ran;
use crate::support::standin::Options;

/// Runs the command, and does something while a call elsewhere is held.
fn while_held(builder: &Builder, call: (&str, &str), arguments: &[&str], meanwhile: impl FnOnce()) -> Ran {
    let (action, when) = call;
    builder.while_held(json!({"action": action, "when": when, "region": FAR}), arguments, meanwhile)
}

fn id(image: &Value) -> String {
    image["ImageId"].as_str().unwrap().to_owned()
}

#[test]
fn who_has_the_name_elsewhere_is_asked_again_once_the_copy_is_complete() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    bakery.put("recipe.toml", recipe("replace"));
    bakery.bakehouse(&["bake", "recipe.toml"]).good();
    for meanwhile in ["an ordinary image", "a protected image", "nobody", "a copy of the image"] {
        let image = bakery.bakehouse(&["bake", "recipe.toml", "--no-publish"]).id();
        let (old, _, before) = there(standin, FAR, "web");
        let publish = ["publish", &*image, "--recipe", "recipe.toml"];
        let mut other = None;
        let ran = while_held(&builder, ("CopyImage", "after"), &publish, || {
            standin.forget_image_in(FAR, &id(&old.unwrap()));
            let mut about = json!({"name": "web", "region": FAR, "architecture": arch()});
            match meanwhile {
                "a protected image" => about["protection"] = json!("enabled-without-cooldown"),
                "a copy of the image" => about["tags"] = json!({"bakehouse:source": image}),
                "nobody" => return,
                _ => {}
            }
            other = Some(standin.seed(disk.path(), about).0);
        });
        standin.clear_faults();
        let told = format!("{meanwhile}: {}", ran.told());
        if meanwhile == "a protected image" {
            let other = other.as_ref().unwrap();
            assert_eq!(ran.status, Some(13), "{told}");
            assert!(
                ran.err.contains("protected from being deregistered") && ran.err.contains(other),
                "{told}"
            );
            assert_eq!(&id(&there(standin, FAR, "web").0.unwrap()), other, "{told}");
            standin.forget_image_in(FAR, other);
            standin.clear_requests();
            bakery.bakehouse(&publish).good();
            assert!(!standin.counts().contains_key("CopyImage"), "the copy is found again");
        } else {
            assert_eq!(ran.status, Some(0), "{told}");
        }
        let (found, images, after) = there(standin, FAR, "web");
        let found = found.unwrap_or_else(|| panic!("{told}"));
        assert_eq!((tags(&found)["bakehouse:source"], images), (&*image, 1), "{told}");
        let parameter = &standin.state_of(FAR)["parameters"][format!("/images/web/{}", arch())];
        assert_eq!(*parameter, found["ImageId"], "{told}");
        match meanwhile {
            "an ordinary image" => {
                let was = format!("{} had the name web", other.unwrap());
                assert!(ran.err.contains(&was), "{told}");
            }
            "a copy of the image" => {
                assert_eq!(id(&found), other.unwrap(), "{told}");
                assert_eq!(after, before + 1, "nothing is left of the copy that was not needed: {told}");
            }
            _ => {}
        }
    }
    bakery.assert_nothing_left();
}

#[test]
fn snapshots_that_ec2_did_not_delete_are_deleted_or_told() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", recipe("replace"));
    bakery.bakehouse(&["bake", "recipe.toml"]).good();
    for denied in [false, true] {
        let image = bakery.bakehouse(&["bake", "recipe.toml", "--no-publish"]).id();
        let (old, ..) = there(standin, FAR, "web");
        let old = old.unwrap();
        let snapshot = old["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap();
        if denied {
            standin.fault(json!({"action": "DeleteSnapshot", "kind": "denied", "times": 0, "region": FAR}));
        }
        // It is gone when the call is carried out, and its snapshots are not.
        let publish = ["publish", &*image, "--recipe", "recipe.toml", "--force"];
        let ran = while_held(&builder, ("DeregisterImage", "before"), &publish, || {
            standin.forget_image_in(FAR, &id(&old));
        });
        standin.clear_faults();
        let (found, images, snapshots) = there(standin, FAR, "web");
        let found = found.unwrap();
        assert_eq!((tags(&found)["bakehouse:source"], images), (&*image, 1), "{}", ran.told());
        let parameter = &standin.state_of(FAR)["parameters"][format!("/images/web/{}", arch())];
        assert_eq!(*parameter, found["ImageId"], "{}", ran.told());
        if denied {
            assert_eq!((ran.status, snapshots), (Some(13), 2), "{}", ran.told());
            let stays = format!("its snapshots stay: {snapshot}");
            assert!(ran.err.contains(&stays) && ran.err.contains("ec2:DeleteSnapshot"), "{}", ran.told());
        } else {
            assert_eq!((ran.status, snapshots), (Some(0), 1), "{}", ran.told());
        }
    }
    bakery.assert_nothing_left();
}
