//! What reached EC2 of a recipe's shape, by the command itself, and what a dry run says of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bake_ec2::Builder;
use crate::support::bakery::Bakery;
use crate::support::standin::{Options, Standin};
use crate::support::{not_root, skipped};

const RECIPE: &str = r#"
[image]
name = "shaped"
description = "an image"
snapshot_description = "its snapshot, on {base}"
tags = { team = "web", of = "all" }
boot_mode = "uefi"
uefi_data = "vars.b64"
tpm = "v2.0"
imds = "none"
sriov = true
root_device = "/dev/sda1"
[tags.volume]
of = "volume"
on = "{base}"
[tags.snapshot]
of = "snapshot"
[tags.image]
of = "image"
also = "{arch}"
[base]
name = "base-*"
owner = "self"
[disk]
size = "8GiB"
type = "io2"
iops = 500
delete_on_termination = false
kms_key = "alias/images"
[disk.bake]
type = "gp3"
iops = 4000
throughput = 1000
initialization_rate = 300
[[device]]
name = "/dev/sdb"
size = "20GiB"
type = "gp3"
[[device]]
name = "/dev/sdc"
drop = true
[[device]]
name = "/dev/sdd"
ephemeral = "ephemeral1"
[[device]]
name = "/dev/sde"
size = "30GiB"
encrypted = true
delete_on_termination = true
[[step]]
use = "script"
script = "setup.sh"
"#;

/// What the base says of itself.
fn base() -> Value {
    json!({
        "boot_mode": "legacy-bios", "imds_support": "v2.0", "throughput": 250, "volume_type": "gp3", "iops": 3000,
        "mappings": [
            {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 10, "VolumeType": "gp2", "DeleteOnTermination": false, "Encrypted": false}},
            {"DeviceName": "/dev/sdc", "VirtualName": "ephemeral0"},
        ],
    })
}

pub type Sent = BTreeMap<String, String>;

/// The parameters of the one request of an action, as they were sent.
pub fn sent(standin: &Standin, action: &str) -> Sent {
    let requests = standin.requests_of(action, 1, std::time::Duration::ZERO);
    assert_eq!(requests.len(), 1, "{action}");
    serde_json::from_value(requests[0]["params"].clone()).unwrap()
}

/// That these parameters were sent so, or not at all.
#[track_caller]
pub fn has(sent: &Sent, wanted: &[(&str, Option<&str>)]) {
    for (key, value) in wanted {
        assert_eq!(sent.get(*key).map(String::as_str), *value, "{key}: {sent:#?}");
    }
}

/// The tags in a request.
pub fn tags(sent: &Sent) -> Sent {
    let pair = |number: usize| {
        let part = |part: &str| sent.get(&format!("TagSpecification.1.Tag.{number}.{part}")).cloned();
        part("Key").zip(part("Value"))
    };
    (1..).map_while(pair).collect()
}

/// The block device mappings in a request, each as DEVICE then KEY=VALUE, sorted.
pub fn mappings(sent: &Sent) -> Vec<String> {
    let mapping = |number: usize| {
        let prefix = format!("BlockDeviceMapping.{number}.");
        let parts: Vec<_> = sent
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.trim_start_matches("Ebs."), value)))
            .map(|(key, value)| if key == "DeviceName" { value.clone() } else { format!("{key}={value}") })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    };
    (1..).map_while(mapping).collect()
}

#[test]
fn a_recipes_shape_reaches_ec2_and_a_dry_run_shows_it_beside_the_bases() {
    let Some(builder) = Builder::start(&Options::default(), base()) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", RECIPE);
    bakery.put("vars.b64", "QU1aTlVF\nRkk=\n");

    let dry = bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"]).good();
    for line in [
        "disk         8GiB, gp3, 4000 IOPS, 1000 MiB/s, loaded at 300 MiB/s, encrypted under alias/images (grown from 1GiB)",
        "root         /dev/sda1, 8GiB, io2, 500 IOPS, encrypted, stays on termination (base: /dev/xvda, 1GiB, gp3, 3000 IOPS, 250 MiB/s)",
        "device       /dev/sdb, 20GiB, gp3, stays on termination (base: /dev/sdb, 10GiB, gp2, stays on termination)",
        "device       /dev/sdd, instance store ephemeral1 (base: none)",
        "device       /dev/sde, 30GiB, gp3, encrypted (base: none)",
        "device       /dev/sdc dropped (base: /dev/sdc, instance store ephemeral0)",
        "boot mode    uefi (base: legacy-bios)",
        "UEFI data    8 bytes (base: none)",
        "TPM          v2.0 (base: none)",
        "IMDS         none (base: v2.0)",
        "ENA          yes (inherited)",
        "SR-IOV       simple (base: none)",
        "snapshot     its snapshot, on base-1",
        "tag          of = snapshot (snapshot alone)",
        "tag          also = x86_64 (image alone)",
        "tag          on = base-1 (volume alone)",
    ] {
        assert!(dry.out.lines().any(|told| told == line), "no {line:?}: {}", dry.told());
    }
    let plan = bakery.bakehouse(&["bake", "recipe.toml", "--dry-run", "--output", "json"]).json();
    assert_eq!(plan["image"]["shape"]["BootMode"], "uefi");
    assert_eq!(plan["base"]["inherited"]["BootMode"], "legacy-bios");
    assert!(!standin.counts().contains_key("CreateVolume"), "nothing was made");

    let image = bakery.bakehouse(&["bake", "recipe.toml"]).id();
    let volume = sent(standin, "CreateVolume");
    has(
        &volume,
        &[
            ("VolumeType", Some("gp3")),
            ("Iops", Some("4000")),
            ("Throughput", Some("1000")),
            ("VolumeInitializationRate", Some("300")),
            ("Encrypted", Some("true")),
            ("KmsKeyId", Some("alias/images")),
            ("Size", Some("8")),
        ],
    );
    let snapshot = sent(standin, "CreateSnapshot");
    has(&snapshot, &[("Description", Some("its snapshot, on base-1"))]);
    let registered = sent(standin, "RegisterImage");
    has(
        &registered,
        &[
            ("BootMode", Some("uefi")),
            ("UefiData", Some("QU1aTlVFRkk=")),
            ("TpmSupport", Some("v2.0")),
            ("ImdsSupport", None),
            ("EnaSupport", Some("true")),
            ("SriovNetSupport", Some("simple")),
            ("RootDeviceName", Some("/dev/sda1")),
        ],
    );
    let made = standin.find("images", "ImageId", &image).unwrap();
    let root = &made["BlockDeviceMappings"][0]["Ebs"];
    let snapshot_id = root["SnapshotId"].as_str().unwrap();
    assert_eq!(
        mappings(&registered),
        [
            format!(
                "/dev/sda1 DeleteOnTermination=false Iops=500 SnapshotId={snapshot_id} VolumeSize=8 VolumeType=io2"
            ),
            "/dev/sdb DeleteOnTermination=false Encrypted=false VolumeSize=20 VolumeType=gp3".to_owned(),
            "/dev/sdd VirtualName=ephemeral1".to_owned(),
            "/dev/sde DeleteOnTermination=true Encrypted=true VolumeSize=30 VolumeType=gp3".to_owned(),
        ]
    );
    let stored = standin.find("snapshots", "SnapshotId", snapshot_id).unwrap();
    assert_eq!((&stored["Encrypted"], &stored["KmsKeyId"]), (&json!(true), &json!("alias/images")));
    assert_eq!(root["Encrypted"], true, "and so the image's root, without a copy");
    for (parameters, of) in [(&volume, "volume"), (&snapshot, "snapshot"), (&registered, "image")] {
        let tags = tags(parameters);
        has(&tags, &[("of", Some(of)), ("team", Some("web"))]);
        assert_eq!(tags.contains_key("on"), of == "volume", "{tags:#?}");
        assert_eq!(tags.contains_key("also"), of == "image", "{tags:#?}");
        assert!(tags.contains_key("bakehouse:bake"), "{tags:#?}");
    }
    assert_eq!(builder.left(), (0, 1, 1));
    bakery.assert_nothing_left();
}

#[test]
fn a_device_of_a_snapshot_is_registered_as_one() {
    let Some(builder) = Builder::start(&Options::default(), base()) else { return };
    let snapshot = &builder.snapshot;
    let recipe = format!(
        "[image]\nname = \"with data\"\n[base]\nname = \"base-*\"\nowner = \"self\"\n[[device]]\nname = \"/dev/sdf\"\n\
         snapshot = \"{snapshot}\"\n[[step]]\nuse = \"script\"\nscript = \"setup.sh\"\n"
    );
    builder.bakery.bake(&recipe, &[]).id();
    let mappings = mappings(&sent(&builder.standin, "RegisterImage"));
    let device = mappings.iter().find(|mapping| mapping.starts_with("/dev/sdf "));
    assert!(device.is_some_and(|device| device.contains(&format!("SnapshotId={snapshot}"))), "{mappings:#?}");
}

#[test]
fn the_command_line_says_the_same() {
    let Some(builder) = Builder::start(&Options::default(), base()) else { return };
    let Builder { standin, bakery, ami, .. } = &builder;
    let vars = bakery.put("vars", "AMZNUEFI");
    let more = [
        "--size",
        "8GiB",
        "--volume-type",
        "gp3",
        "--iops",
        "4000",
        "--throughput",
        "500",
        "--initialization-rate",
        "100",
        "--encrypt",
        "--boot-mode",
        "uefi-preferred",
        "--tpm",
        "v2.0",
        "--imds",
        "none",
        "--uefi-data",
        vars.to_str().unwrap(),
        "--device",
        "/dev/sdb=drop",
        "--device",
        "/dev/sdd=40GiB,type=st1",
        "--device",
        "/dev/sde=ephemeral2",
        "--tag",
        "a=all",
        "--volume-tag",
        "v={base}",
        "--snapshot-tag",
        "s=1",
        "--image-tag",
        "i=1",
    ];
    let bad = bakery.bakehouse(&[&["bake", "--base", ami, "--name", "flags"][..], &more].concat());
    bad.refused(2, &["--device /dev/sdd=40GiB,type=st1", "the size of st1 is 125 to 16384 GiB"]);
    let more: Vec<_> = more
        .iter()
        .map(|word| if word.contains("st1") { "/dev/sdd=140GiB,type=st1" } else { word })
        .collect();
    bakery.bakehouse(&[&["bake", "--base", ami, "--name", "flags"][..], &more].concat()).good();
    let volume = sent(standin, "CreateVolume");
    has(
        &volume,
        &[
            ("Iops", Some("4000")),
            ("Throughput", Some("500")),
            ("VolumeInitializationRate", Some("100")),
            ("Encrypted", Some("true")),
            ("KmsKeyId", None),
        ],
    );
    let registered = sent(standin, "RegisterImage");
    has(
        &registered,
        &[
            ("TpmSupport", Some("v2.0")),
            ("ImdsSupport", None),
            ("BootMode", Some("uefi-preferred")),
            ("UefiData", Some("QU1aTlVFRkk=")),
            ("BlockDeviceMapping.1.Ebs.Iops", Some("4000")),
            ("BlockDeviceMapping.1.Ebs.Throughput", Some("500")),
        ],
    );
    let mapped = mappings(&registered);
    let names: Vec<_> = mapped.iter().map(|each| each.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["/dev/xvda", "/dev/sdc", "/dev/sdd", "/dev/sde"]);
    has(&tags(&volume), &[("v", Some("base-1")), ("a", Some("all")), ("s", None), ("i", None)]);
    has(&tags(&sent(standin, "CreateSnapshot")), &[("s", Some("1")), ("v", None)]);
    has(&tags(&registered), &[("i", Some("1")), ("a", Some("all")), ("v", None)]);
    builder.bakery.assert_nothing_left();
}

#[test]
fn what_the_base_cannot_be_is_told_before_anything_is_made() {
    let Some(builder) =
        Builder::start(&Options::default(), json!({"boot_mode": "legacy-bios", "encrypted": true}))
    else {
        return;
    };
    let Builder { standin, bakery, ami, .. } = &builder;
    for (flags, says) in [
        (&["--tpm", "v2.0"][..], "a TPM needs UEFI, and the boot mode is legacy-bios"),
        (&["--device", "/dev/sdb=type,type=gp3"], "--device /dev/sdb=type,type=gp3"),
        (&["--device", "/dev/xvda=20GiB"], "/dev/xvda is the root's name and another device's"),
        (&["--iops", "3001"], "at most 500 `iops` a GiB"),
        (&["--volume-type", "io2"], "io2 needs `iops`"),
        (&["--kms-key", "a key"], "names no KMS key"),
        (&["--replace-snapshots"], "--replace-snapshots without a replacement"),
        (&["--uefi-data", "/dev/null"], "is no UEFI variable store"),
    ] {
        let ran = bakery.bakehouse(&[&["bake", "--base", ami, "--name", "never"], flags].concat());
        let status = ran.status.unwrap();
        assert!([2, 3].contains(&status), "{flags:?}: {}", ran.told());
        ran.refused(status, &[says]);
    }
    let recipe = |disk: &str| {
        format!("[image]\nname = 'never'\nuefi_data = 'gone.b64'\n[base]\nami = '{ami}'\n{disk}")
    };
    let shown = bakery.bake(&recipe(""), &["--dry-run"]).refused(3, &["gone.b64", "recipe.toml:3:13"]);
    assert!(shown.err.contains("`uefi_data`"), "{}", shown.told());
    let encrypted = recipe("[disk]\nencrypted = false\n").replace("uefi_data = 'gone.b64'\n", "");
    bakery.bake(&encrypted, &[]).refused(3, &["the base is encrypted"]);
    assert!(!standin.counts().contains_key("CreateVolume"));

    // An encrypted base's image is encrypted, with nothing said.
    let image = bakery.bake(&recipe("").replace("uefi_data = 'gone.b64'\n", ""), &[]).id();
    has(&sent(standin, "CreateVolume"), &[("Encrypted", None)]);
    let image = standin.find("images", "ImageId", &image).unwrap();
    assert_eq!(image["BlockDeviceMappings"][0]["Ebs"]["Encrypted"], true);
    bakery.assert_nothing_left();
}

#[test]
fn one_recipe_serves_the_local_store_too() {
    if skipped(not_root()) {
        return;
    }
    let bakery = Bakery::new();
    let disk = crate::support::bakery::small_disk();
    bakery.base("base-1", disk.path());
    bakery.put("setup.sh", "#!/bin/sh\nexit 0\n");
    bakery.put("vars.b64", "QU1aTlVFRkk=");
    let recipe = RECIPE.replacen("size = \"8GiB\"\n", "", 1);
    let note = "EC2's alone, and nothing on the local store: [disk] type, [disk] iops, [disk] delete_on_termination, [disk] encrypted, [disk.bake], [[device]], [image] uefi_data, [image] tpm, [image] imds, [image] sriov";
    let dry = bakery.bake(&recipe, &["--dry-run"]).good();
    assert!(dry.out.contains(&format!("note         {note}")), "{}", dry.told());
    let ran = bakery.bake(&recipe, &[]).good();
    assert_eq!(ran.err.matches("EC2's alone").count(), 1, "one note: {}", ran.told());
    let record = bakery.store().image("shaped").unwrap();
    assert_eq!((record.boot_mode.as_deref(), record.root_device.as_str()), (Some("uefi"), "/dev/sda1"));
    assert_eq!((record.tags["of"].as_str(), record.tags["team"].as_str()), ("image", "web"));
    bakery.assert_nothing_left();
}
