//! A volume, a device or a raw disk of the user's, baked in place: it stays where and whose it is.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt as _;

use bakehouse::disk::loopdev::LoopDevice;

use super::*;
use crate::support::bakery::{Bakery, in_mounts_of_its_own, look_into, small_disk};
use crate::support::host::{has, own_mounts};
use crate::support::images::mounted;
use crate::support::standin::INSTANCE;

const OTHER: &str = "i-0aaaaaaaaaaaaaaaa";

/// How often each of these was called.
fn calls(builder: &Builder) -> [usize; 5] {
    let counts = builder.standin.counts();
    ["CreateVolume", "AttachVolume", "DetachVolume", "DeleteVolume", "CreateTags"]
        .map(|action| counts.get(action).copied().unwrap_or_default())
}

fn volume(builder: &Builder, id: &str) -> Value {
    builder.standin.find("volumes", "VolumeId", id).unwrap_or_else(|| panic!("{id} is gone"))
}

/// Bakes on it, and looks into the image and what it says of itself.
fn bake(builder: &Builder, base: &str, more: &[&str]) -> Value {
    let ran = builder.bakery.bake(&recipe(base), &[&["--output", "json"], more].concat());
    let baked = ran.json();
    let file = content(builder, baked["snapshot"].as_str().unwrap());
    assert_eq!(look_into(&file, 1, "ext4", mark), "baked\n");
    let image = builder.standin.find("images", "ImageId", baked["image"].as_str().unwrap()).unwrap();
    assert_eq!(image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"], baked["snapshot"], "{image:#}");
    baked
}

#[test]
fn a_free_volume_is_attached_for_the_bake_and_detached_afterwards() {
    let Some(builder) = builder() else { return };
    let about = json!({"tags": {"Name": "mine"}, "volume_type": "gp3", "throughput": 250});
    let made = builder.standin.volume(builder.disk.path(), about);
    let id = made["volume_id"].as_str().unwrap();
    let before = volume(&builder, id);
    let base = format!("volume = \"{id}\"\nroot_device = \"/dev/sda1\"");

    let dry = builder.bakery.bake(&recipe(&base), &["--dry-run"]).good();
    for told in
        ["baked in place, and stays yours", "attached for the bake, and detached afterwards", "ENA", id]
    {
        assert!(dry.out.contains(told), "{told}: {}", dry.told());
    }
    assert_eq!(calls(&builder), [0; 5]);

    let baked = bake(&builder, &base, &[]);
    assert_eq!(baked["base"], id, "{baked:#}");
    assert_eq!(calls(&builder), [0, 1, 1, 0, 0], "neither made, deleted nor tagged");
    assert_eq!(last(&builder, "CreateSnapshot")["VolumeId"], id);
    assert_eq!(volume(&builder, id), before, "as it was, but for its content");
    let image = builder.standin.find("images", "ImageId", baked["image"].as_str().unwrap()).unwrap();
    let root = &image["BlockDeviceMappings"][0];
    assert_eq!(
        (&root["DeviceName"], &root["Ebs"]["VolumeType"]),
        (&json!("/dev/sda1"), &json!("gp3")),
        "{image:#}"
    );
    assert_eq!((&root["Ebs"]["Throughput"], &root["Ebs"]["VolumeSize"]), (&json!(250), &before["Size"]));
    builder.bakery.assert_nothing_left();

    // A bake that fails lets it go as well, and nothing finds it afterwards.
    builder.bakery.put("setup.sh", "#!/bin/sh\nexit 3\n");
    builder.bakery.bake(&recipe(&base), &[]).refused(9, &["exit status 3"]);
    assert_eq!(volume(&builder, id), before);
    let kept = builder.bakery.bake(&recipe(&base), &["--on-error", "keep"]);
    kept.refused(9, &["kept, as asked: attachment of vol-"]);
    assert_eq!(volume(&builder, id)["State"], "in-use");
    let now = ["--kept-older-than", "0s"];
    builder.bakery.bakehouse(&[&["gc", "--yes", "--all", "--older-than", "1s"], &now[..]].concat()).good();
    assert_eq!(volume(&builder, id), before, "detached, and there");
    builder.bakery.assert_nothing_left();
}

#[test]
fn a_volume_of_this_builder_is_used_where_it_is_by_its_id_or_its_device() {
    for xen in [false, true] {
        let Some(builder) = Builder::start(&Options { xen, ..Options::default() }, json!({})) else { return };
        let at = json!({"attached": {"instance": INSTANCE, "device": "/dev/sdk"}});
        let made = builder.standin.volume(builder.disk.path(), at);
        let (id, link) = (made["volume_id"].as_str().unwrap(), made["link"].as_str().unwrap());
        let before = volume(&builder, id);
        for base in [format!("volume = \"{id}\""), format!("device = \"{link}\"")] {
            let baked = bake(&builder, &base, &["--name", &format!("on-{}", base.len())]);
            assert_eq!(baked["base"], id);
            assert_eq!(volume(&builder, id), before, "attached still");
        }
        assert_eq!(calls(&builder), [0; 5]);
        let plan = self::plan(&builder, "image = \"x\"", &["--base", link]);
        assert_eq!(
            plan["base"]["notes"][0].as_str().unwrap().split(" is behind ").next(),
            Some(id),
            "{plan:#}"
        );
        assert!(fs::metadata(link).unwrap().file_type().is_block_device());
        builder.bakery.assert_nothing_left();
    }
}

#[test]
fn a_volume_that_somebody_else_has_or_that_is_a_bakes_is_refused() {
    let Some(builder) = builder() else { return };
    let make = |about: Value| {
        let made = builder.standin.volume(builder.disk.path(), about);
        made["volume_id"].as_str().unwrap().to_owned()
    };
    for (about, words) in [
        (
            json!({"attached": {"instance": OTHER, "device": "/dev/sdf"}}),
            ["is attached to i-0aaaaaaaaaaaaaaaa as /dev/sdf", "snapshot"],
        ),
        (json!({"zone": "eu-west-1c"}), ["is in eu-west-1c, and this builder in eu-west-1b", "snapshot"]),
        (
            json!({"tags": {"bakehouse:bake": "bake-0123456789abcdef0"}}),
            ["bake-0123456789abcdef0's", "gc --yes` deletes it"],
        ),
        (json!({"state": "creating"}), ["is creating", "wait"]),
    ] {
        let id = make(about);
        builder.bakery.bake(&recipe(&format!("volume = \"{id}\"")), &[]).refused(5, &words);
    }
    let none = recipe("volume = \"vol-0123456789abcdef0\"");
    builder.bakery.bake(&none, &[]).refused(5, &["no such volume in eu-west-1"]);
    let id = make(json!({}));
    let larger = format!("{}[disk]\nsize = \"8GiB\"\n", recipe(&format!("volume = \"{id}\"")));
    builder.bakery.bake(&larger, &[]).refused(3, &["[disk] size is 8GiB", "is not resized"]);
    let file = builder.disk.path().to_str().unwrap();
    builder
        .bakery
        .bake(&recipe(&format!("device = \"{file}\"")), &[])
        .refused(5, &["is a file, and EC2 bakes on volumes"]);
    assert_eq!(calls(&builder), [0; 5]);
    assert_eq!(builder.standin.state()["volumes"].as_array().unwrap().len(), 5, "each of them stays");
}

#[test]
fn a_volume_that_is_mounted_here_is_refused() {
    let Some(builder) = builder() else { return };
    let at = json!({"attached": {"instance": INSTANCE, "device": "/dev/sdk"}});
    let made = builder.standin.volume(builder.disk.path(), at);
    let (id, link) = (made["volume_id"].as_str().unwrap(), made["link"].as_str().unwrap());
    let target = tempfile::tempdir().unwrap();
    let node = fs::canonicalize(format!("{link}-part1")).unwrap();
    in_mounts_of_its_own(|| {
        mounted(&node, "ext4", "", target.path(), |_| {
            for base in [format!("volume = \"{id}\""), format!("device = \"{link}\"")] {
                builder.bakery.bake(&recipe(&base), &[]).refused(8, &["in use", "mounted or held"]);
            }
        });
    });
    let partition = recipe(&format!("device = \"{link}-part1\""));
    builder.bakery.bake(&partition, &[]).refused(5, &["is a partition", "name the disk: /dev/"]);
    assert_eq!(volume(&builder, id)["State"], "in-use");
    assert_eq!(calls(&builder), [0; 5]);
}

/// A bakery of the local store with the script of every recipe here.
fn local() -> Option<Bakery> {
    if !has(&["sfdisk", "mkfs.ext4", "ldd", "timeout", "e2fsck"]) {
        return None;
    }
    let bakery = Bakery::new();
    bakery.put("setup.sh", "#!/bin/sh\necho baked > /srv/mark\n");
    Some(bakery)
}

#[test]
fn a_raw_disk_is_baked_in_place_and_copied_into_the_store() {
    let Some(bakery) = local() else { return };
    let disk = small_disk();
    let file = bakery.path("mine.raw");
    fs::copy(disk.path(), &file).unwrap();
    // Relative to the recipe's folder.
    let dry = bakery.bake(&recipe("device = \"mine.raw\""), &["--dry-run"]).good();
    assert!(dry.out.contains("the file is baked in place, and stays yours"), "{}", dry.told());
    let id = bakery.bake(&recipe("device = \"mine.raw\""), &[]).id();
    assert_eq!(bakery.look(&id, 1, "ext4", mark), "baked\n");
    assert_eq!(look_into(&file, 1, "ext4", mark), "baked\n", "its content is the image's");
    assert_eq!(fs::metadata(&file).unwrap().len(), fs::metadata(disk.path()).unwrap().len());
    bakery.assert_nothing_left();

    // And by one line; a failed bake leaves it, and no image.
    let second = bakery.bakehouse(&["bake", "--base", "./mine.raw", "--name", "second"]).id();
    assert_ne!(second, id);
    bakery.put("setup.sh", "#!/bin/sh\nexit 3\n");
    bakery.bake(&recipe("device = \"mine.raw\""), &[]).refused(9, &["exit status 3"]);
    assert_eq!(bakery.store().records().unwrap().len(), 2);
    assert!(file.is_file());
    bakery.bakehouse(&["gc", "--yes", "--all", "--older-than", "1s"]).good();
    assert_eq!(look_into(&file, 1, "ext4", mark), "baked\n");
    bakery.assert_nothing_left();

    // What the store keeps is not to be changed.
    let stored = bakery.store().disk_of(&bakery.store().image(&id).unwrap());
    let own = recipe(&format!("device = {stored:?}"));
    bakery.bake(&own, &[]).refused(5, &["is the local store's own", "name its image"]);
    bakery.bake(&recipe("device = \"none.raw\""), &[]).refused(5, &["is not there"]);
    let larger = format!("{}[disk]\nsize = \"1GiB\"\n", recipe("device = \"mine.raw\""));
    bakery.bake(&larger, &[]).refused(3, &["is not resized"]);
}

#[test]
fn a_block_device_of_this_host_is_baked_in_place() {
    let Some(bakery) = local() else { return };
    let disk = small_disk();
    let device = LoopDevice::attach(disk.path()).unwrap();
    let node = device.path().to_str().unwrap().to_owned();
    let id = bakery.bake(&recipe(&format!("device = \"{node}\"")), &[]).id();
    assert_eq!(bakery.look(&id, 1, "ext4", mark), "baked\n");
    let store = bakery.store();
    let stored = store.disk_of(&store.image(&id).unwrap());
    let blocks = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap());
    assert_eq!(fs::metadata(&stored).unwrap().len(), fs::metadata(disk.path()).unwrap().len());
    assert!(blocks(&stored) * 512 < 60 << 20, "zeroes are holes: {} blocks", blocks(&stored));

    // The file under it is in use, and so is what is mounted.
    let file = disk.path().to_str().unwrap();
    let in_use = recipe(&format!("device = \"{file}\""));
    bakery.bake(&in_use, &[]).refused(5, &["is in use: it is attached to /dev/loop"]);
    let target = tempfile::tempdir().unwrap();
    in_mounts_of_its_own(|| {
        own_mounts();
        let node = device.partitions().unwrap()[0].1.clone();
        mounted(&node, "ext4", "", target.path(), |_| {
            let base = format!("device = \"{}\"", device.path().display());
            bakery.bake(&recipe(&base), &[]).refused(8, &["in use", "mounted or held"]);
        });
    });
    assert!(File::open(device.path()).is_ok(), "the device stays");
    device.detach().unwrap();
    assert_eq!(look_into(disk.path(), 1, "ext4", mark), "baked\n");
    bakery.assert_nothing_left();
}
