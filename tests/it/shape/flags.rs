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
fn networking_and_no_uefi_data_are_said_over_any_base() {
    let about = json!({"ena_support": true, "sriov_net_support": "simple"});
    let Some(builder) = Builder::start(&Options::default(), about) else { return };
    let Builder { standin, bakery, .. } = &builder;
    for (flags, ena, sriov) in [
        (&["--ena=false", "--sriov", "--uefi-data", "none"][..], None, Some("simple")),
        (&["--ena-networking"], Some("true"), Some("simple")),
        (&["--ena", "--sriov=false"], Some("true"), None),
    ] {
        standin.clear_requests();
        let ran = bakery.bakehouse(&[&["bake", "recipe.toml", "--suffix"][..], flags].concat()).good();
        let sent = standin.requests_of("RegisterImage", 1, std::time::Duration::ZERO)[0]["params"].clone();
        let of = |key: &str| sent[key].as_str().filter(|said| *said != "false").map(str::to_owned);
        let shown = format!("{flags:?}: {sent:#} {}", ran.told());
        assert_eq!(of("EnaSupport").as_deref(), ena, "{shown}");
        assert_eq!(of("SriovNetSupport").as_deref(), sriov, "{shown}");
        assert_eq!(of("UefiData"), None, "{shown}");
    }
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--ena=perhaps"]);
    assert_eq!(ran.status, Some(2), "{}", ran.told());
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
