//! Names that are taken where copies go: an image is replaced in every Region, and a number is free in all of them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{arch, modifying, tags};
use crate::bake_ec2::{Builder, RECIPE};
use crate::support::standin::{Options, REGION, Standin};

pub const FAR: &str = "us-east-1";

pub fn recipe(collision: &str) -> String {
    let named =
        RECIPE.replace("name = \"small-{arch}\"", &format!("name = \"web\"\non_collision = \"{collision}\""));
    format!("{named}\n[publish]\nregions = [\"{FAR}\"]\nparameters = [\"/images/web/{{arch}}\"]\n")
}

/// The image of a name in a Region, and how many images and snapshots there are.
pub fn there(standin: &Standin, region: &str, name: &str) -> (Option<Value>, usize, usize) {
    let state = standin.state_of(region);
    let images = state["images"].as_array().unwrap();
    let found = images.iter().find(|image| image["Name"] == name).cloned();
    (found, images.len(), state["snapshots"].as_array().unwrap().len())
}

/// What was done to images in the other Region, in order.
fn deeds(standin: &Standin) -> Vec<String> {
    let wanted = ["CopyImage", "RegisterImage", "DeregisterImage"];
    modifying(standin)
        .iter()
        .filter(|each| {
            each["region"] == FAR && each["done"] == true && wanted.iter().any(|one| each["action"] == *one)
        })
        .map(|each| {
            let about = each["params"]["Name"].as_str().or(each["params"]["ImageId"].as_str());
            format!("{} {}", each["action"].as_str().unwrap(), about.unwrap())
        })
        .collect()
}

#[test]
fn an_image_is_replaced_in_every_region_once_its_copy_there_is_complete() {
    let Some(builder) = Builder::start(&Options::default(), json!({"boot_mode": "uefi"})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", recipe("replace"));
    let bake = ["bake", "recipe.toml", "--output", "json"];
    let first = bakery.bakehouse(&bake).json();
    let old = first["published"][FAR]["image"].as_str().unwrap().to_owned();
    standin.clear_requests();
    let dry = bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"]).good();
    assert!(dry.err.contains("has the name web"), "{}", dry.told());
    assert_eq!(deeds(standin), Vec::<String>::new());

    let ran = bakery.bakehouse(&[&bake[..], &["--replace-snapshots"]].concat());
    let told = ran.told();
    let second = ran.json();
    let image = second["image"].as_str().unwrap();
    let new = second["published"][FAR]["image"].as_str().unwrap();
    let done = deeds(standin);
    let aside = done.last().unwrap().strip_prefix("DeregisterImage ").unwrap().to_owned();
    assert_eq!(
        done,
        [
            format!("CopyImage copy-of-{image}"),
            format!("DeregisterImage {old}"),
            "RegisterImage web".to_owned(),
            format!("DeregisterImage {aside}"),
        ],
        "the copy is complete before the old image goes\n{told}"
    );
    let (found, images, snapshots) = there(standin, FAR, "web");
    let found = found.unwrap();
    assert_eq!((images, snapshots), (1, 1), "the old one's snapshots are gone, the new one's stand");
    assert_eq!(
        (&found["ImageId"], &found["State"], &found["BootMode"]),
        (&json!(new), &json!("available"), &json!("uefi"))
    );
    assert_eq!(tags(&found)["bakehouse:source"], image);
    assert_eq!(tags(&found)["team"], "web");
    assert_eq!(standin.state_of(FAR)["parameters"][format!("/images/web/{}", arch())], new);

    standin.clear_requests();
    bakery.bakehouse(&["publish", image, "--recipe", "recipe.toml"]).good();
    assert_eq!(modifying(standin), Vec::<Value>::new(), "a second run changes nothing");
    bakery.assert_nothing_left();
}

#[test]
fn what_broke_off_between_the_old_copy_and_the_new_one_is_finished_by_publish() {
    let Some(builder) = Builder::start(&Options::default(), json!({"boot_mode": "uefi"})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", recipe("fail"));
    let bake = |more: &[&str]| bakery.bakehouse(&[&["bake", "recipe.toml"], more].concat());
    bake(&[]).good();
    let refused = bake(&[]).refused(12, &["the image name web is taken"]);
    assert!(refused.err.contains("--replace"), "{}", refused.told());
    for (fault, stands) in [
        (json!({"action": "DeregisterImage", "on": 1}), true),
        // What can be refused of the new registration is refused while the old image stands.
        (json!({"action": "DescribeImageAttribute", "on": 1}), true),
        (json!({"action": "RegisterImage", "on": 1}), true),
        // As where the permission is taken away in that very moment.
        (json!({"action": "RegisterImage", "on": 2}), false),
        (json!({"action": "DeregisterImage", "on": 2}), true),
    ] {
        standin.clear_requests();
        let mut denied = json!({"kind": "denied", "times": 0, "region": FAR});
        denied.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
        standin.fault(denied);
        let ran = bake(&["--replace"]);
        assert_eq!(ran.status, Some(13), "{fault}: {}", ran.told());
        assert!(ran.err.contains("--recipe recipe.toml --replace`"), "{}", ran.told());
        assert_eq!(there(standin, FAR, "web").0.is_some(), stands, "{fault}: {}", ran.told());
        standin.clear_faults();
        let image = ran.out.trim();
        bakery.bakehouse(&["publish", image, "--recipe", "recipe.toml", "--replace"]).good();
        let (found, images, _) = there(standin, FAR, "web");
        assert_eq!((tags(&found.unwrap())["bakehouse:source"], images), (image, 1), "{fault}");
        bakery.assert_nothing_left();
    }
}

#[test]
fn a_number_is_free_in_every_region_and_a_protected_copy_is_not_replaced() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let (taken, _) = standin
        .seed(disk.path(), json!({"name": "web", "region": FAR, "protection": "enabled-with-cooldown"}));
    standin.seed(disk.path(), json!({"name": "web-2"}));
    bakery.put("recipe.toml", recipe("replace"));
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(
        12,
        &[&taken, "protected from being deregistered", &format!("--image-id {taken} --region {FAR};")],
    );
    assert_eq!(modifying(standin), Vec::<Value>::new());
    bakery.put("recipe.toml", recipe("suffix"));
    bakery.bakehouse(&["bake", "recipe.toml"]).good();
    for region in [REGION, FAR] {
        assert!(there(standin, region, "web-3").0.is_some(), "{region}");
    }
    bakery.put("recipe.toml", recipe("suffix").replace(FAR, "mars-north-1"));
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(3, &["mars-north-1", "no Region"]);
    bakery.assert_nothing_left();
}

#[test]
fn killed_at_each_call_of_a_replacement_elsewhere_publish_finishes_it() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { bakery, .. } = &builder;
    bakery.put("recipe.toml", recipe("replace"));
    bakery.bakehouse(&["bake", "recipe.toml"]).good();
    for (action, nth, when) in [
        ("CopyImage", 1, "before"),
        ("CopyImage", 1, "after"),
        // That it is allowed is asked first, by a call that does nothing.
        ("RegisterImage", 1, "before"),
        ("DeregisterImage", 1, "before"),
        ("DeregisterImage", 1, "after"),
        ("RegisterImage", 2, "before"),
        ("RegisterImage", 2, "after"),
        ("DeregisterImage", 2, "before"),
        ("DeregisterImage", 2, "after"),
        ("PutParameter", 1, "before"),
        ("PutParameter", 1, "after"),
    ] {
        let image = bakery.bakehouse(&["bake", "recipe.toml", "--no-publish"]).id();
        ended_at(&builder, &image, (action, nth, when), Signal::SIGKILL);
        let ran = bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
        is_replaced(&builder, &image, &format!("{action} {nth} {when}: {}", ran.told()));
    }
    bakery.assert_nothing_left();
}

#[test]
fn a_signal_after_the_old_image_elsewhere_went_is_heard_once_the_new_one_has_its_name() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", recipe("replace"));
    bakery.bakehouse(&["bake", "recipe.toml"]).good();
    // The new image is waited for too.
    standin.latencies(json!({"image": 0.5}));
    for (action, nth, when, goes_on) in [
        ("CopyImage", 1, "after", false),
        ("RegisterImage", 1, "before", false),
        ("DeregisterImage", 1, "before", true),
        ("DeregisterImage", 1, "after", true),
        ("RegisterImage", 2, "before", true),
        ("RegisterImage", 2, "after", true),
        ("DeregisterImage", 2, "before", true),
        ("DeregisterImage", 2, "after", true),
    ] {
        let at = format!("{action} {nth} {when}");
        let image = bakery.bakehouse(&["bake", "recipe.toml", "--no-publish"]).id();
        let (old, ..) = there(standin, FAR, "web");
        let told = ended_at(&builder, &image, (action, nth, when), Signal::SIGTERM);
        assert!(told.contains("stopped by SIGTERM"), "{at}: {told}");
        let (found, images, _) = there(standin, FAR, "web");
        if goes_on {
            let found = found.unwrap_or_else(|| panic!("{at}: {told}"));
            assert_eq!((tags(&found)["bakehouse:source"], images), (&*image, 1), "{at}: {told}");
            assert_eq!(found["State"], "available", "{at}: {told}");
        } else {
            assert_eq!(found.map(|found| found["ImageId"].clone()), old.map(|old| old["ImageId"].clone()));
        }
        let ran = bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
        is_replaced(&builder, &image, &format!("{at}: {}", ran.told()));
    }
    bakery.assert_nothing_left();
}

/// Publishes an image, and ends that by a signal while a call elsewhere is held: the `nth` of an action, before or
/// after it is carried out. What was told on standard error.
fn ended_at(builder: &Builder, image: &str, call: (&str, u32, &str), signal: Signal) -> String {
    let Builder { standin, bakery, .. } = builder;
    let (action, nth, when) = call;
    standin.fault(json!({"action": action, "kind": "hold", "when": when, "on": nth, "region": FAR}));
    let publish = ["publish", image, "--recipe", "recipe.toml"];
    let mut child =
        bakery.command(&[], &publish).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    assert!(!standin.held(Duration::from_secs(60)).is_empty(), "{call:?}: not reached");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    kill(Pid::from_raw(children.trim().parse().unwrap()), signal).unwrap();
    let mut told = String::new();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut released = signal == Signal::SIGKILL;
    for line in lines {
        told.push_str(&line);
        told.push('\n');
        // From here on the request is known, and the held call may be answered.
        if !released && line.contains("stopping") {
            standin.release(false);
            released = true;
        }
    }
    let status = child.wait().unwrap();
    if signal == Signal::SIGKILL {
        standin.release(true);
    } else {
        assert_eq!(status.code(), Some(13), "{call:?}: {told}");
    }
    standin.clear_faults();
    told
}

/// Asserts that a copy of an image has the name elsewhere, alone, and that the parameter says it.
#[track_caller]
fn is_replaced(builder: &Builder, image: &str, at: &str) {
    let (found, images, snapshots) = there(&builder.standin, FAR, "web");
    let found = found.unwrap_or_else(|| panic!("nobody has the name: {at}"));
    assert_eq!(tags(&found)["bakehouse:source"], image, "{at}");
    assert_eq!(images, 1, "an image is left beside it: {at}");
    assert!(snapshots >= 2, "the old ones stay unless asked for: {at}");
    let parameter = &builder.standin.state_of(FAR)["parameters"][format!("/images/web/{}", arch())];
    assert_eq!(*parameter, found["ImageId"], "{at}");
}
