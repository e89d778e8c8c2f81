//! Roots on logical volumes, made and read by LVM's own programs. No device-mapper is needed for volumes of one
//! range; of several, what device-mapper would be told is looked at.

use std::fs;

use bakehouse::disk::Filesystem;

use super::{mount, refusal};
use crate::support::bakery::{Bakery, fill_with_shell, in_mounts_of_its_own};
use crate::support::host::{in_own_mounts, run};
use crate::support::images::{Image, fill_root, mounted};
use crate::support::lvm::{FSTAB, TABLE, identity, lvm, lvm_disk, needed, ranges, with_volume};

#[test]
fn a_root_on_a_logical_volume_is_mounted_grown_and_closed() {
    if !needed() {
        return;
    }
    in_own_mounts(|| {
        let image = lvm_disk(|root| fill_root(root, FSTAB));
        let before = identity(&image);
        image.extend(320);
        let root = mount(&image);
        let told: Vec<String> = root.areas().iter().map(ToString::to_string).collect();
        assert!(told[0].starts_with("logical volume base-vg/root (ext4, label root, "), "{told:?}");
        assert!(told[1].starts_with("logical volume base-vg/data (ext4, label data, 32 MiB"), "{told:?}");
        assert_eq!(fs::read_to_string(root.path().join("srv/kept")).unwrap(), "data", "/srv is there too");
        fs::write(root.path().join("mark"), "baked").unwrap();
        root.provisioned().close().unwrap();

        assert_eq!(identity(&image), before, "names and UUIDs are the base's: GRUB finds the group by them");
        image.with_node(2, |node| {
            let [(_, length)] = ranges(node, "root")[..] else { panic!() };
            assert!(length >= 180 << 20, "the root volume grew to {} MiB", length >> 20);
            with_volume(node, "root", |device| {
                run("e2fsck", &["-f", "-n", device.to_str().unwrap()]);
                mounted(device, "ext4", "", &image.target(), |target| {
                    assert_eq!(fs::read_to_string(target.join("mark")).unwrap(), "baked");
                    let stat = nix::sys::statvfs::statvfs(target).unwrap();
                    assert!(stat.blocks() * stat.fragment_size() > 160 << 20, "its filesystem grew");
                });
            });
        });
    });
}

#[test]
fn two_copies_of_one_base_are_mounted_at_once() {
    if !needed() {
        return;
    }
    in_own_mounts(|| {
        let first = lvm_disk(|root| fill_root(root, FSTAB));
        let second = first.copy();
        let (one, two) = (mount(&first), mount(&second));
        fs::write(one.path().join("mark"), "one").unwrap();
        fs::write(two.path().join("mark"), "two").unwrap();
        one.provisioned().close().unwrap();
        two.abandon().unwrap();
        for (image, mark) in [(&first, "one"), (&second, "two")] {
            image.with_node(2, |node| {
                with_volume(node, "root", |device| {
                    mounted(device, "ext4", "", &image.target(), |target| {
                        assert_eq!(fs::read_to_string(target.join("mark")).unwrap(), mark);
                    });
                });
            });
        }
    });
}

#[test]
fn a_bake_on_lvm_leaves_an_image_on_lvm() {
    if !needed() {
        return;
    }
    let image = lvm_disk(|root| fill_with_shell(root, FSTAB));
    let bakery = Bakery::new();
    bakery.base("on-lvm", image.path());
    let recipe = "[image]\nname = \"on-lvm-{time}\"\n[base]\nimage = \"on-lvm\"\n[disk]\nsize = \"256MiB\"\n\
        [[step]]\nuse = \"script\"\nrun = [\"/bin/sh\", \"-c\", \"echo baked > /srv/mark\"]\n";
    let ran = bakery.bake(recipe, &[]);
    assert!(ran.err.contains("logical volume base-vg/root (ext4"), "{}", ran.told());
    let id = ran.id();
    let store = bakery.store();
    let disk = store.disk_of(&store.image(&id).unwrap());
    in_mounts_of_its_own(|| {
        let copy = Image::empty(1);
        run("cp", &["--sparse=always", disk.to_str().unwrap(), copy.path().to_str().unwrap()]);
        copy.with_node(2, |node| {
            with_volume(node, "data", |device| {
                mounted(device, "ext4", "", &copy.target(), |target| {
                    assert_eq!(
                        fs::read_to_string(target.join("mark")).unwrap(),
                        "baked\n",
                        "on the volume at /srv"
                    );
                });
            });
            assert!(ranges(node, "root")[0].1 > 100 << 20, "grown with [disk] size");
        });
    });
    bakery.assert_nothing_left();
}

#[test]
fn what_is_not_read_as_ranges_is_refused_by_name() {
    if !needed() {
        return;
    }
    in_own_mounts(|| {
        let spread = "label: gpt\nsize=64M,type=lvm\ntype=lvm\n";
        let striped = Image::partitioned(192, spread);
        let other = Image::partitioned(96, TABLE);
        striped.with_nodes(|nodes| {
            let names: Vec<&str> = nodes.iter().map(|node| node.to_str().unwrap()).collect();
            lvm(nodes, "pvcreate", &[&["-y"], &names[..]].concat());
            lvm(nodes, "vgcreate", &[&["base-vg"], &names[..]].concat());
            let more = ["-an", "-Zn", "-Wn", "-y", "-i", "2", "-n", "root", "-L", "64M", "base-vg"];
            lvm(nodes, "lvcreate", &more);
        });
        let (message, hint) = refusal(&striped, None);
        assert!(message.contains("logical volume base-vg/root (LVM striped, 64 MiB)"), "{message}");
        assert!(hint.contains("this one is striped"), "{hint}");

        // A group of which a part is elsewhere.
        other.with_node(2, |elsewhere| {
            striped.with_node(1, |here| {
                let names = [here.to_str().unwrap(), elsewhere.to_str().unwrap()];
                run("wipefs", &["-qa", names[0]]);
                lvm(&[here, elsewhere], "pvcreate", &["-ffy", names[0], names[1]]);
                lvm(&[here, elsewhere], "vgcreate", &["wide", names[0], names[1]]);
                lvm(
                    &[here, elsewhere],
                    "lvcreate",
                    &["-an", "-Zn", "-Wn", "-y", "-n", "root", "-L", "8M", "wide"],
                );
            });
        });
        striped.with_node(2, |node| run("wipefs", &["-qa", node.to_str().unwrap()]));
        let (message, hint) = refusal(&striped, None);
        assert!(message.contains("wide has 1 physical volume(s) that are not on this disk"), "{message}");
        assert!(hint.contains("root disk alone"), "{hint}");
        other.format(1, Filesystem::Ext, "x", |_| ());
    });
}

#[test]
fn several_ranges_are_device_mappers() {
    if !needed() {
        return;
    }
    let image = lvm_disk(|root| fill_with_shell(root, FSTAB));
    // Another volume behind the root: what the root gains is a range of its own.
    image.with_node(2, |node| {
        lvm(&[node], "lvcreate", &["-an", "-Zn", "-Wn", "-y", "-n", "swap", "-L", "8M", "base-vg"]);
        lvm(&[node], "lvextend", &["-l", "+2", "base-vg/root"]);
        assert_eq!(ranges(node, "root").len(), 2);
    });
    let mut bakery = Bakery::new();
    bakery.base("ranges", image.path());
    // A device-mapper that only notes what it is asked for.
    let log = bakery.path("dmsetup.log");
    let fake = format!("#!/bin/sh\n{{ echo \"$@\"; cat; }} >> {}\nexit 1\n", log.display());
    let fake = bakery.put("bin/dmsetup", fake);
    run("chmod", &["+x", fake.to_str().unwrap()]);
    let path = format!("{}:{}", fake.parent().unwrap().display(), std::env::var("PATH").unwrap());
    bakery.set("PATH", Some(&path));
    let recipe = "[image]\nname = \"x-{time}\"\n[base]\nimage = \"ranges\"\n";
    let ran = bakery.bake(recipe, &[]);
    assert_ne!(ran.status, Some(0), "{}", ran.told());
    assert!(ran.err.contains("opening the logical volume base-vg/root"), "{}", ran.told());
    let asked = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = asked.lines().collect();
    let [create, first, second] = lines[..] else { panic!("{asked}") };
    assert!(create.starts_with("create --uuid bakehouse-"), "{asked}");
    assert!(create.contains(" bakehouse-loop") && create.ends_with("p2-base-vg-root"), "{asked}");
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (first, second) = (words(first), words(second));
    assert_eq!(
        (first[0].as_str(), first[1].as_str(), first[2].as_str()),
        ("0", "131072", "linear"),
        "{asked}"
    );
    assert_eq!(
        (second[0].as_str(), second[1].as_str(), &second[3]),
        ("131072", "16384", &first[3]),
        "{asked}"
    );
    bakery.assert_nothing_left();
}
