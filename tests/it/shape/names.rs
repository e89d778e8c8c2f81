//! Names that are taken: fail, replace, or a number.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::bake_ec2::Builder;
use crate::support::bakery::{Bakery, small_disk};
use crate::support::standin::{Options, Standin};
use crate::support::{not_root, skipped};

/// The actions on images and snapshots that were carried out, in order, each with the name or id that it is about.
fn deeds(standin: &Standin) -> Vec<String> {
    let about = |request: &Value| {
        let of = |key: &str| request["params"][key].as_str().map(str::to_owned);
        of("Name").or_else(|| of("ImageId")).or_else(|| of("SnapshotId")).unwrap_or_default()
    };
    let kinds = ["RegisterImage", "DeregisterImage", "DeleteSnapshot"];
    standin
        .requests()
        .iter()
        .filter(|request| kinds.iter().any(|kind| request["action"] == *kind) && request["done"] == true)
        .map(|request| format!("{} {}", request["action"].as_str().unwrap(), about(request)))
        .collect()
}

pub fn image(standin: &Standin, name: &str) -> Option<Value> {
    let images = standin.state()["images"].as_array().unwrap().clone();
    images.into_iter().find(|image| image["Name"] == name)
}

#[test]
fn an_image_is_replaced_once_the_new_one_is_complete() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let (old, old_snapshot) = standin.seed(disk.path(), json!({"name": "web"}));
    let replace = ["bake", "recipe.toml", "--name", "web", "--replace"];
    let dry = bakery.bakehouse(&[&replace[..], &["--dry-run"]].concat()).good();
    assert!(dry.out.contains(&format!("replaces     {old}")), "{}", dry.told());
    assert!(dry.err.contains(&format!("{old} has the name web")), "{}", dry.told());
    assert_eq!(deeds(standin), Vec::<String>::new());

    let ran = bakery.bakehouse(&[&replace[..], &["--output", "json"]].concat());
    let told = ran.told();
    let baked = ran.json();
    assert_eq!((&baked["name"], &baked["replaced"]), (&json!("web"), &json!(old)), "{told}");
    let bake = baked["bake"].as_str().unwrap();
    let done = deeds(standin);
    let provisional = done[3].clone();
    assert_eq!(
        done,
        [
            format!("RegisterImage {bake}"),
            format!("DeregisterImage {old}"),
            "RegisterImage web".to_owned(),
            provisional.clone(),
        ],
        "the new one stands before the old one goes\n{told}"
    );
    assert!(provisional.starts_with("DeregisterImage ami-"));
    assert_eq!(image(standin, "web").unwrap()["ImageId"], baked["image"]);
    assert!(standin.find("snapshots", "SnapshotId", &old_snapshot).is_some(), "kept unless asked for");
    assert_eq!(builder.left(), (0, 2, 1));

    // With its snapshots, but for one that another image uses.
    let shared = standin.find("images", "ImageId", baked["image"].as_str().unwrap()).unwrap();
    let first = shared["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap().to_owned();
    let forced = bakery.bakehouse(&["bake", "recipe.toml", "--name", "web", "--force"]).id();
    assert!(standin.find("snapshots", "SnapshotId", &first).is_none(), "deleted with its image");
    let now = standin.find("images", "ImageId", &forced).unwrap();
    let used = now["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap().to_owned();
    bakery
        .bakehouse(&["bake", "--base", &used, "--name", "other", "--device", &format!("/dev/sdb={used}")])
        .good();
    let last = bakery.bakehouse(&["bake", "recipe.toml", "--name", "web", "--force"]);
    assert!(last.err.contains("another image") || last.err.contains(&used), "{}", last.told());
    last.good();
    assert!(standin.find("snapshots", "SnapshotId", &used).is_some(), "another image uses it");
    // Nothing to replace is no reason to do anything else.
    standin.clear_requests();
    bakery.bakehouse(&["bake", "recipe.toml", "--name", "new", "--force"]).good();
    assert_eq!(deeds(standin), ["RegisterImage new"]);
    bakery.assert_nothing_left();
}

#[test]
fn what_is_refused_is_refused_while_the_old_image_stands() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let (old, _) = standin.seed(disk.path(), json!({"name": "web"}));
    let force = ["bake", "recipe.toml", "--name", "web", "--force"];
    for fault in [
        json!({"action": "RegisterImage", "kind": "denied"}),
        json!({"action": "RegisterImage", "kind": "error-state"}),
        json!({"action": "DeregisterImage", "kind": "denied"}),
    ] {
        standin.fault(fault.clone());
        let ran = bakery.bakehouse(&force);
        assert!(ran.status.is_some_and(|status| status > 1), "{fault}: {}", ran.told());
        assert_eq!(image(standin, "web").unwrap()["ImageId"], old, "{fault}: {}", ran.told());
        assert_eq!(builder.left(), (0, 1, 1), "{fault}: {}", ran.told());
        standin.clear_faults();
    }
    bakery.assert_nothing_left();
}

#[test]
fn an_image_that_is_protected_is_not_replaced_and_that_is_told_before_anything_is_made() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let (old, _) = standin.seed(disk.path(), json!({"name": "web", "protection": "enabled-with-cooldown"}));
    let force = ["bake", "recipe.toml", "--name", "web", "--force"];
    for more in [&["--dry-run"][..], &[]] {
        bakery.bakehouse(&[&force[..], more].concat()).refused(
            12,
            &[&old, "protected from being deregistered", "aws ec2 disable-image-deregistration-protection"],
        );
    }
    assert_eq!(standin.counts().get("CreateVolume"), None);
    assert_eq!(deeds(standin), Vec::<String>::new());
    bakery.assert_nothing_left();
}

#[test]
fn an_image_that_is_protected_meanwhile_still_stands_and_nothing_else_does() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let (old, _) = standin.seed(disk.path(), json!({"name": "web"}));
    standin.fault(json!({"action": "DeregisterImage", "kind": "error", "code": "OperationNotPermitted",
        "message": "The image is protected from deregistration.", "where": {"ImageId": old}, "times": 0}));
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--name", "web", "--force"]);
    assert!(ran.status.is_some_and(|status| status > 1), "{}", ran.told());
    assert!(ran.err.contains("protected from deregistration"), "{}", ran.told());
    assert!(ran.err.contains("disable-image-deregistration-protection"), "{}", ran.told());
    assert_eq!(image(standin, "web").unwrap()["ImageId"], old, "{}", ran.told());
    assert_eq!(builder.left(), (0, 1, 1), "{}", ran.told());
    bakery.assert_nothing_left();
}

#[test]
fn between_the_old_image_and_the_new_one_the_bake_is_finished() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    for (name, by_gc) in [("by-gc", true), ("by-resume", false)] {
        let (old, old_snapshot) = standin.seed(disk.path(), json!({"name": name}));
        standin.fault(json!({"action": "RegisterImage", "kind": "denied", "on": 2, "times": 0}));
        let ran = bakery.bakehouse(&["bake", "recipe.toml", "--name", name, "--force"]);
        let ran = ran.refused(11, &["was deregistered", "it stands under the name bake-", "bakehouse gc"]);
        assert!(standin.find("images", "ImageId", &old).is_none());
        assert!(standin.find("snapshots", "SnapshotId", &old_snapshot).is_some(), "until the new one stands");
        standin.clear_faults();
        if by_gc {
            let shown = bakery.bakehouse(&["gc", "--output", "json"]).json();
            let done = bakery.bakehouse(&["gc", "--yes", "--output", "json"]).json();
            assert_eq!(shown.as_array().unwrap().len(), done.as_array().unwrap().len(), "{shown:#} {done:#}");
        } else {
            let at = ran.err.find("bake-").unwrap();
            bakery.bakehouse(&["bake", "--resume", &ran.err[at..at + 22]]).good();
        }
        assert!(image(standin, name).is_some(), "{}", ran.told());
        assert!(standin.find("snapshots", "SnapshotId", &old_snapshot).is_none(), "deleted, as asked");
        bakery.assert_nothing_left();
    }
    assert_eq!(builder.left(), (0, 2, 2));
}

#[test]
fn of_several_that_replace_one_image_at_once_one_stands() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    standin.seed(disk.path(), json!({"name": "web"}));
    standin.latencies(json!({"image": 0.3}));
    std::thread::scope(|scope| {
        // One whose image goes while it waits for it waits no longer than that.
        let force = ["bake", "recipe.toml", "--name", "web", "--force", "--deadline", "visible=5s"];
        let force = move || bakery.bakehouse(&force);
        let bakes: Vec<_> = (0..3).map(|_| scope.spawn(force)).collect();
        let ran: Vec<_> = bakes.into_iter().map(|bake| bake.join().unwrap()).collect();
        assert!(ran.iter().any(|ran| ran.status == Some(0)), "{ran:?}");
        for ran in ran.into_iter().filter(|ran| ran.status != Some(0)) {
            ran.refused(12, &["another bake gave the name web to ami-"]);
        }
    });
    assert!(image(standin, "web").is_some());
    assert_eq!(builder.left(), (0, 1, 1));
    bakery.assert_nothing_left();
}

#[test]
fn a_number_makes_a_taken_name_another() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    standin.seed(disk.path(), json!({"name": "web"}));
    let suffix = ["bake", "recipe.toml", "--name", "web", "--suffix"];
    let dry = bakery.bakehouse(&[&suffix[..], &["--dry-run"]].concat()).good();
    assert!(
        dry.out.contains("image        web-2\n") && dry.out.contains("name=web-2, arch="),
        "{}",
        dry.told()
    );
    standin.latencies(json!({"snapshot": 0.5}));
    let names: Vec<String> = std::thread::scope(|scope| {
        let one = || bakery.bakehouse(&[&suffix[..], &["--output", "json"]].concat()).json();
        let bakes: Vec<_> = (0..3).map(|_| scope.spawn(one)).collect();
        bakes.into_iter().map(|bake| bake.join().unwrap()["name"].as_str().unwrap().to_owned()).collect()
    });
    let names: BTreeSet<_> = names.into_iter().collect();
    assert_eq!(names, ["web-2", "web-3", "web-4"].map(str::to_owned).into());
    for name in names {
        let description = image(standin, &name).unwrap()["Description"].as_str().unwrap().to_owned();
        assert!(description.contains(&format!("name={name}, arch=")), "{description}");
    }
    assert_eq!(builder.left(), (0, 4, 4));
    let taken = ["bake", "recipe.toml", "--name", "web"];
    bakery.bakehouse(&taken).refused(12, &["the image name web is taken by ami-", "--replace", "--suffix"]);
    let both = bakery.bakehouse(&[&taken[..], &["--suffix", "--replace"]].concat());
    assert_eq!(both.status, Some(2), "{}", both.told());
    bakery.assert_nothing_left();
}

#[test]
fn the_local_store_does_the_same() {
    if skipped(not_root()) {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("base-1", disk.path());
    let recipe = |on: &str| {
        format!(
            "[image]\nname = \"web\"\n{on}\n[base]\nimage = \"base-1\"\n[[step]]\nuse = \"script\"\nrun = [\"/bin/sh\", \"-c\", \"echo $WHO > /srv/who\"]\nenv = {{ WHO = \"{}\" }}\n",
            on.len()
        )
    };
    let first = bakery.bake(&recipe(""), &[]).id();
    bakery.bake(&recipe(""), &[]).refused(12, &["web", &first]);
    let second = bakery.bake(&recipe("on_collision = \"suffix\""), &[]).id();
    assert_eq!(bakery.store().image(&second).unwrap().name, "web-2");
    let replace = "on_collision = \"replace\"";
    let third = bakery.bake(&recipe(replace), &["--output", "json"]).json();
    assert_eq!(third["replaced"], first);
    let records = bakery.store().records().unwrap();
    assert_eq!(records.len(), 3, "{records:?}");
    assert_eq!(bakery.store().image("web").unwrap().id, third["image"].as_str().unwrap());
    let who = bakery.look("web", 1, "ext4", |root| std::fs::read_to_string(root.join("srv/who")).unwrap());
    assert_eq!(who, format!("{}\n", replace.len()));
    bakery.assert_nothing_left();
}
