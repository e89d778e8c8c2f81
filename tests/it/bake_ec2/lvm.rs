//! Bases whose root is a logical volume, on EC2's road: an attached volume is read as ranges of its partitions, so what
//! holds them must be gone before it can be detached.

use std::fs;

use bakehouse::program::find;
use serde_json::json;

use super::{Builder, file_of};
use crate::support::bakery::{Ran, fill_with_shell, in_mounts_of_its_own};
use crate::support::host::run;
use crate::support::images::{Image, mounted};
use crate::support::lvm::{FSTAB, identity, lvm, lvm_disk, needed, ranges, with_volume};
use crate::support::standin::Options;

/// Where the verbs of a bake stand in the requests, each of which is there once.
fn order(builder: &Builder, verbs: &[&str]) -> Vec<usize> {
    let requests = builder.standin.requests();
    let places = |verb: &str| {
        let all: Vec<usize> = (0..requests.len()).filter(|at| requests[*at]["action"] == verb).collect();
        assert_eq!(all.len(), 1, "{verb} once");
        all[0]
    };
    verbs.iter().map(|verb| places(verb)).collect()
}

fn on_lvm(options: &Options) -> Builder {
    let builder = Builder::on(options, json!({}), lvm_disk(|root| fill_with_shell(root, FSTAB)));
    builder.bakery.put("setup.sh", "#!/bin/sh\necho root > /root/mark\necho data > /srv/mark\n");
    let recipe = super::RECIPE
        .replace("size = \"8GiB\"", "size = \"2GiB\"")
        .replace("iops = 4000\n", "")
        .replace("throughput = 200\n", "")
        .replace("= baked ]", "= data ]");
    builder.bakery.put("recipe.toml", recipe);
    builder
}

#[test]
fn a_base_on_lvm_becomes_an_image_on_lvm() {
    if !needed() {
        return;
    }
    for xen in [false, true] {
        let builder = on_lvm(&Options { xen, ..Options::default() });
        let Builder { standin, bakery, disk, .. } = &builder;
        let before = identity(disk);
        let ran = bakery.bakehouse(&["bake", "recipe.toml"]);
        let told = ran.told();
        assert!(told.contains("logical volume base-vg/root (ext4"), "{told}");
        let id = ran.id();
        let verbs = ["CreateVolume", "AttachVolume", "CreateSnapshot", "DetachVolume", "DeleteVolume"];
        assert!(order(&builder, &verbs).is_sorted(), "{told}");
        order(&builder, &["RegisterImage"]);
        assert_eq!(builder.left(), (0, 1, 1), "{told}");

        let image = standin.find("images", "ImageId", &id).unwrap();
        let root = &image["BlockDeviceMappings"][0]["Ebs"];
        assert_eq!((&image["RootDeviceName"], &root["VolumeSize"]), (&json!("/dev/xvda"), &json!(2)));
        let file = file_of(standin, root["SnapshotId"].as_str().unwrap());
        let copy = Image::empty(1);
        run("cp", &["--sparse=always", file.to_str().unwrap(), copy.path().to_str().unwrap()]);
        assert_eq!(identity(&copy), before, "GRUB finds the group by its name and UUIDs");
        in_mounts_of_its_own(|| {
            copy.with_node(2, |node| {
                for (volume, mark, mib) in [("root", "root/mark", 1900), ("data", "mark", 32)] {
                    let [(_, length)] = ranges(node, volume)[..] else { panic!("{volume}") };
                    assert!(length >= mib << 20, "{volume} has {} MiB", length >> 20);
                    with_volume(node, volume, |device| {
                        run("e2fsck", &["-f", "-n", device.to_str().unwrap()]);
                        mounted(device, "ext4", "", &copy.target(), |target| {
                            let text = fs::read_to_string(target.join(mark)).unwrap();
                            assert_eq!(text, format!("{volume}\n"));
                        });
                    });
                }
            });
        });
        bakery.assert_nothing_left();
        builder.standin.stop();
    }
}

#[test]
fn a_bake_on_lvm_that_fails_gives_its_volume_back() {
    if !needed() {
        return;
    }
    let builder = on_lvm(&Options::default());
    let Builder { standin, bakery, .. } = &builder;
    let recipe = fs::read_to_string(bakery.path("recipe.toml")).unwrap();
    bakery.put("setup.sh", "#!/bin/sh\necho this is why\nexit 3\n");
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(9, &["this is why", "exit status 3"]);
    assert_eq!(builder.left(), (0, 0, 0));

    // Kept as it is at that point: the volume stays, and what was mapped of it goes with the process.
    bakery
        .bakehouse(&["bake", "recipe.toml", "--on-error", "keep"])
        .refused(9, &["kept, as asked: ", "vol-"]);
    assert_eq!(builder.left(), (1, 0, 0));
    bakery.bakehouse(&["gc", "--yes", "--kept-older-than", "0s"]).good();
    assert_eq!(builder.left(), (0, 0, 0));

    // Roots of which nothing can be read as ranges are refused by name, and so is a group that is not all there.
    for (name, striped) in [("striped", true), ("torn", false)] {
        let image = Image::partitioned(192, "label: gpt\nsize=64M,type=lvm\ntype=lvm\n");
        image.with_nodes(|nodes| {
            let names: Vec<&str> = nodes.iter().map(|node| node.to_str().unwrap()).collect();
            lvm(nodes, "pvcreate", &[&["-y"], &names[..]].concat());
            lvm(nodes, "vgcreate", &[&["base-vg"], &names[..]].concat());
            let more = ["-an", "-Zn", "-Wn", "-y", "-i", "2", "-n", "root", "-L", "64M", "base-vg"];
            lvm(nodes, "lvcreate", &more);
            if !striped {
                run("wipefs", &["-qa", names[1]]);
            }
        });
        standin.seed(image.path(), json!({"name": name}));
        bakery.put("recipe.toml", recipe.replace("base-*", name).replace("small-", name));
        let why: &[&str] = match striped {
            true => &["logical volume base-vg/root (LVM striped", "this one is striped"],
            false => &["base-vg has 1 physical volume(s) that are not on this disk", "root disk alone"],
        };
        bakery.bakehouse(&["bake", "recipe.toml"]).refused(8, why);
        assert_eq!(standin.state()["volumes"], json!([]), "{name}");
    }
    assert!(!standin.counts().contains_key("CreateSnapshot"));
    bakery.assert_nothing_left();
    builder.standin.stop();
}

#[test]
fn a_builder_without_lvm2_says_so_and_keeps_nothing() {
    if !needed() {
        return;
    }
    let builder = on_lvm(&Options::default());
    // In mounts of its own, where LVM's program is nothing that can be run.
    let lvm = find("lvm".as_ref()).unwrap().canonicalize().unwrap();
    let hide = format!("mount --bind /dev/null {} && exec \"$0\" \"$@\"", lvm.display());
    let through = ["unshare", "--mount", "sh", "-c", &hide];
    Ran::of(&mut builder.bakery.command(&through, &["bake", "recipe.toml"])).refused(4, &["lvm", "lvm2"]);
    assert_eq!(builder.left(), (0, 0, 0));
    builder.bakery.assert_nothing_left();
    builder.standin.stop();
}
