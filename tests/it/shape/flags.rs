//! Flags that shape an image: what they ask for reaches EC2, and what they cannot mean is refused, not passed over.

use serde_json::{Value, json};

use crate::bake_ec2::Builder;
use crate::support::standin::Options;

#[test]
fn the_root_devices_name_is_said_over_any_base() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, ami, snapshot, .. } = &builder;
    for base in ["base-1", ami, snapshot] {
        let name = format!("named-{base}");
        let bake = ["bake", "--base", base, "--name", &name, "--root-device", "/dev/sda1"];
        let plan = bakery.bakehouse(&[&bake[..], &["--dry-run"]].concat()).good();
        assert!(plan.out.contains("root         /dev/sda1"), "{}", plan.told());
        let image = bakery.bakehouse(&bake).id();
        let image = standin.find("images", "ImageId", &image).unwrap();
        assert_eq!(image["RootDeviceName"], "/dev/sda1", "{image:#}");
        let names: Vec<_> = image["BlockDeviceMappings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one: &Value| one["DeviceName"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["/dev/sda1"], "{image:#}");
    }
    bakery.bakehouse(&["bake", "recipe.toml", "--root-device", "sda1"]).refused(2, &["--root-device sda1"]);
    bakery.assert_nothing_left();
}

#[test]
fn what_a_flag_cannot_mean_is_refused() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    let bake = |more: &[&str]| bakery.bakehouse(&[&["bake", "recipe.toml", "--dry-run"], more].concat());
    bake(&["--volume-tag", "of={version}"])
        .refused(2, &["--volume-tag of={version}", "not known when the volume is made", "--image-tag"]);
    bake(&["--volume-tag", "of={base}"]).good();
    bakery
        .bakehouse(&["bake", "--base", "base-1", "--name", "web", "--env", "prod", "--dry-run"])
        .refused(2, &["--env prod", "recipe"]);
    assert_eq!(standin.counts().get("CreateVolume"), None);
}
