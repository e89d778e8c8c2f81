//! What others do with a name while an image is to take it.

use std::cell::OnceCell;
use std::time::Duration;

use serde_json::{Value, json};

use super::names::image;
use crate::bake_ec2::Builder;
use crate::support::bakery::Ran;
use crate::support::standin::Options;

const REPLACE: [&str; 7] = ["bake", "recipe.toml", "--name", "web", "--force", "--deadline", "visible=2s"];

/// Bakes in the place of an image of the name, if any; meanwhile others do something, before or after RegisterImage
/// is carried out for the first time.
fn while_registering(builder: &Builder, when: &str, meanwhile: impl FnOnce()) -> Ran {
    builder.while_held(json!({"action": "RegisterImage", "when": when}), &REPLACE, meanwhile)
}

/// That the name went to another's image, and nothing else is left.
#[track_caller]
fn is_lost_to(builder: &Builder, ran: Ran, other: &str, words: &[&str]) {
    let gave = format!("another bake gave the name web to {other}");
    ran.refused(12, &[&[gave.as_str(), "bake again"], words].concat());
    assert_eq!(image(&builder.standin, "web").unwrap()["ImageId"], other);
    assert_eq!(builder.left(), (0, 1, 1));
    builder.bakery.assert_nothing_left();
}

#[test]
fn an_image_that_comes_while_nobody_has_the_name_is_replaced_too() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let mut other = None;
    let ran = while_registering(&builder, "before", || {
        other = Some(standin.seed(disk.path(), json!({"name": "web"})));
    });
    let told = ran.told();
    let new = ran.id();
    assert_eq!(image(standin, "web").unwrap()["ImageId"], new, "{told}");
    let (other, snapshot) = other.unwrap();
    assert!(standin.find("images", "ImageId", &other).is_none(), "{told}");
    assert!(standin.find("snapshots", "SnapshotId", &snapshot).is_none(), "--force: deleted\n{told}");
    assert_eq!(builder.left(), (0, 1, 1), "{told}");
    bakery.assert_nothing_left();
}

#[test]
fn one_that_comes_and_is_protected_stands() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let mut other = None;
    let ran = while_registering(&builder, "before", || {
        let about = json!({"name": "web", "protection": "enabled-without-cooldown"});
        other = Some(standin.seed(disk.path(), about).0);
    });
    let other = other.unwrap();
    ran.refused(12, &[&other, "protected from being deregistered"]);
    assert_eq!(image(standin, "web").unwrap()["ImageId"], other);
    assert_eq!(builder.left(), (0, 1, 1));
    bakery.assert_nothing_left();
}

#[test]
fn a_name_that_ec2_holds_taken_though_nobody_has_it_is_asked_for_again() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    standin.fault(json!({"action": "RegisterImage", "kind": "error", "code": "InvalidAMIName.Duplicate",
        "message": "AMI name web is already in use by AMI ami-0000000000000gone"}));
    bakery.bakehouse(&REPLACE).good();
    assert_eq!(builder.left(), (0, 1, 1));
    standin.fault(json!({"action": "RegisterImage", "kind": "error", "code": "InvalidAMIName.Duplicate",
        "message": "AMI name app is already in use by AMI ami-0000000000000gone", "times": 0}));
    let never = ["bake", "recipe.toml", "--name", "app", "--replace"];
    bakery.bakehouse(&never).refused(12, &["AMI name app is already in use"]);
    assert_eq!(builder.left(), (0, 1, 1));
    bakery.assert_nothing_left();
}

#[test]
fn an_image_whose_name_another_takes_while_it_is_pending_is_undone() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, disk, .. } = &builder;
    standin.latencies(json!({"image": 600}));
    let mut other = None;
    let ran = while_registering(&builder, "after", || {
        let own = image(standin, "web").unwrap()["ImageId"].as_str().unwrap().to_owned();
        standin.forget_image(&own);
        other = Some(standin.seed(disk.path(), json!({"name": "web"})).0);
    });
    is_lost_to(&builder, ran, &other.unwrap(), &[]);
}

#[test]
fn one_that_takes_the_name_of_an_image_that_went_and_is_protected_by_then_stands() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, disk, .. } = &builder;
    standin.seed(disk.path(), json!({"name": "web"}));
    let mut other = None;
    // The first is under the bake's id.
    let named = json!({"action": "RegisterImage", "when": "before", "on": 2});
    let ran = builder.while_held(named, &REPLACE, || {
        let (seeded, _) = standin.seed(disk.path(), json!({"name": "web"}));
        standin.fault(json!({"action": "DeregisterImage", "kind": "error", "code": "OperationNotPermitted",
            "message": "The image is protected from deregistration.", "where": {"ImageId": seeded}, "times": 0}));
        other = Some(seeded);
    });
    // The snapshot of the image that went goes too, as asked.
    is_lost_to(&builder, ran, &other.unwrap(), &["protected from deregistration"]);
}

#[test]
fn an_image_that_was_in_the_way_of_one_that_is_not_there_yet_waits_for_it() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, disk, .. } = &builder;
    standin.latencies(json!({"image": 600}));
    let mut other = None;
    let ran = builder.while_held_in_turn(
        &REPLACE,
        &mut [
            (json!({"action": "RegisterImage", "when": "after"}), &mut || {
                standin.forget_image(image(standin, "web").unwrap()["ImageId"].as_str().unwrap());
                true
            }),
            // Who has the name: nobody, when EC2 looked.
            (by_name(), &mut || {
                standin.clear_faults();
                other = Some(standin.seed(disk.path(), json!({"name": "web"})).0);
                true
            }),
        ],
    );
    is_lost_to(&builder, ran, &other.unwrap(), &[]);
}

#[test]
fn so_does_one_that_had_replaced_another() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, disk, .. } = &builder;
    standin.seed(disk.path(), json!({"name": "web"}));
    let (own, mut other) = (OnceCell::new(), None);
    let ran = builder.while_held_in_turn(
        &[&REPLACE[..], &["--deadline", "lookup=2s"]].concat(),
        &mut [
            (json!({"action": "RegisterImage", "when": "after", "on": 2}), &mut || {
                let id = image(standin, "web").unwrap()["ImageId"].as_str().unwrap().to_owned();
                standin.forget_image(&id);
                own.set(id).is_ok()
            }),
            (by_name(), &mut || {
                let own = own.get().unwrap();
                // Only then does it ask who else has the name.
                let let_go = standin
                    .requests_of("DeregisterImage", 0, Duration::ZERO)
                    .iter()
                    .any(|one| one["params"]["ImageId"] == own.as_str());
                if let_go {
                    standin.clear_faults();
                    other = Some(standin.seed(disk.path(), json!({"name": "web"})).0);
                }
                let_go
            }),
        ],
    );
    // What it had replaced is not restored.
    is_lost_to(&builder, ran, &other.unwrap(), &[]);
}

/// Every look for the image of a name, held once EC2 has looked.
fn by_name() -> Value {
    json!({"action": "DescribeImages", "when": "after", "where": {"Filter.1.Name": "name"}, "times": 0})
}
