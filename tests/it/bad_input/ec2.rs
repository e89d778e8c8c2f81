//! What EC2 refuses, against the stand-in.

use serde_json::json;

use crate::bake_ec2::{Builder, RECIPE};
use crate::support::standin::Options;

#[test]
fn bases_that_cannot_be_used_are_told_before_anything_is_made() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let seed = |about: serde_json::Value| standin.seed(disk.path(), about).0;
    let stranger = seed(json!({"name": "stranger", "root_device_type": "instance-store"}));
    let other = if std::env::consts::ARCH == "x86_64" { "arm64" } else { "x86_64" };
    let unlike = seed(json!({"name": "unlike", "architecture": other}));
    let pending = seed(json!({"name": "pending", "state": "pending"}));
    let old = seed(json!({"name": "old", "virtualization_type": "paravirtual"}));
    standin.parameter("/bases/text", "no image at all");
    let one_line: [(&str, &[&str]); 9] = [
        ("ami-0123456789abcdef0", &["no such AMI in eu-west-1", "ami-0123456789abcdef0"]),
        ("nothing-*", &["nothing-*", "owner"]),
        ("snap-0123456789abcdef0", &["InvalidSnapshot.NotFound", "snap-0123456789abcdef0"]),
        ("/bases/none", &["/bases/none"]),
        // Its value is not told: whoever meant another parameter may have named a secret's.
        ("/bases/text", &["/bases/text", "holds no AMI id", "15 characters"]),
        (&stranger, &["not EBS"]),
        (&unlike, &[other, "binfmt_misc"]),
        (&pending, &["pending"]),
        (&old, &["paravirtual"]),
    ];
    for (base, words) in one_line {
        if base == unlike && std::path::Path::new("/proc/sys/fs/binfmt_misc/status").exists() {
            continue;
        }
        eprintln!("{base}");
        bakery.bakehouse(&["bake", "--base", base, "--name", "web-1"]).refused(5, words);
    }
    seed(json!({"name": "base-2"}));
    let several = RECIPE.replace("owner = \"self\"", "owner = \"self\"\nnewest = false");
    bakery.bake(&several, &[]).refused(5, &["2 AMIs", "base-1", "base-2"]);
    assert!(!standin.counts().contains_key("CreateVolume"), "{:?}", standin.counts());
    assert_eq!(standin.state()["volumes"], json!([]));
    bakery.assert_nothing_left();
}

#[test]
fn a_name_that_is_taken_is_seen_before_a_volume_is_made() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    let (taken, _) = standin.seed(disk.path(), json!({"name": "web-1"}));
    bakery.bakehouse(&["bake", "recipe.toml", "--name", "web-1"]).refused(12, &["web-1", &taken]);
    assert!(!standin.counts().contains_key("CreateVolume"), "{:?}", standin.counts());
    bakery.assert_nothing_left();
}

#[test]
fn what_iam_refuses_names_the_action() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    let actions = ["DescribeImages", "CreateVolume", "AttachVolume", "CreateSnapshot", "RegisterImage"];
    for action in actions {
        eprintln!("{action}");
        standin.fault(json!({"action": action, "kind": "denied", "times": 0}));
        bakery
            .bakehouse(&["bake", "recipe.toml"])
            .refused(6, &[&format!("ec2:{action}"), "allow the IAM action"]);
        standin.clear_faults();
        assert_eq!(builder.left(), (0, 0, 0), "{action}");
        bakery.assert_nothing_left();
    }
    standin.fault(json!({"action": "CreateVolume", "kind": "quota", "times": 0}));
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(7, &["quota"]);
    standin.clear_faults();
    let invalid = json!({"action": "CreateVolume", "kind": "error", "code": "InvalidParameterCombination",
        "message": "The parameter iops is too high", "status": 400});
    standin.fault(invalid);
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(3, &["CreateVolume", "[disk]"]);
    assert_eq!(builder.left(), (0, 0, 0));
    bakery.assert_nothing_left();
}

#[test]
fn credentials_that_are_missing_or_wrong() {
    let Some(mut builder) = Builder::start(&Options::default(), json!({})) else { return };
    builder.bakery.set("AWS_SECRET_ACCESS_KEY", Some("another"));
    builder.bakery.bakehouse(&["bake", "recipe.toml"]).refused(6, &["credentials"]);
    builder.standin.fault(json!({"action": "DescribeImages", "kind": "expired", "times": 0}));
    builder.bakery.set("AWS_SECRET_ACCESS_KEY", Some("standin-secret"));
    builder.bakery.bakehouse(&["bake", "recipe.toml"]).refused(6, &["credentials"]);
    builder.standin.clear_faults();

    // Not on an instance with a role, and none set: told at once, without asking an address that may not answer.
    builder.bakery.set("AWS_ACCESS_KEY_ID", None).set("AWS_SECRET_ACCESS_KEY", None);
    builder.bakery.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", None).set("AWS_REGION", Some("eu-west-1"));
    builder.bakery.set("AWS_EC2_METADATA_DISABLED", Some("true"));
    let ran = builder.bakery.bakehouse(&["images", "--cloud", "ec2"]);
    assert!(ran.took < std::time::Duration::from_secs(10), "{}", ran.told());
    ran.refused(6, &["no credentials", "AWS_ACCESS_KEY_ID"]);
    builder.bakery.assert_nothing_left();
}
