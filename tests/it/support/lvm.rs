//! Disks whose root is a logical volume, made and read by LVM's own programs. No device-mapper is needed for volumes of
//! one range.

use std::fs;
use std::path::Path;

use super::bakery::in_mounts_of_its_own;
use super::host::{has, run};
use super::images::{Image, mounted};

/// The partitions of [`lvm_disk`], for sfdisk.
pub const TABLE: &str = "label: gpt\nsize=16M,type=linux\ntype=lvm\n";
/// What the root of [`lvm_disk`] mounts.
pub const FSTAB: &str =
    "/dev/mapper/base--vg-root / ext4 defaults 0 1\n/dev/base-vg/data /srv ext4 defaults 0 2\n";

/// Runs one of LVM's commands on these physical volumes, as any user would but for the kernel's part.
pub fn lvm(nodes: &[&Path], command: &str, arguments: &[&str]) -> String {
    let devices = nodes.iter().map(|node| node.to_str().unwrap()).collect::<Vec<_>>().join(",");
    let mut all = vec!["LVM_SYSTEM_DIR=", "LVM_SUPPRESS_FD_WARNINGS=1", "lvm", command];
    all.extend(["--driverloaded", "n", "--devices", &devices]);
    all.extend(arguments);
    run("env", &all)
}

fn make(node: &Path, volumes: &[(&str, &str)]) {
    let name = node.to_str().unwrap();
    lvm(&[node], "pvcreate", &["-y", name]);
    lvm(&[node], "vgcreate", &["base-vg", name]);
    for (volume, size) in volumes {
        lvm(&[node], "lvcreate", &["-an", "-Zn", "-Wn", "-y", "-n", volume, "-L", size, "base-vg"]);
    }
}

/// The ranges of a volume as LVM tells them: (where on its partition, how long), in bytes.
pub fn ranges(node: &Path, volume: &str) -> Vec<(u64, u64)> {
    let fields = ["--noheadings", "--units", "b", "--nosuffix", "--separator", ";"];
    let told = |command: &str, more: &[&str]| lvm(&[node], command, &[&fields, more].concat());
    let start: u64 = told("pvs", &["-o", "pe_start"]).trim().parse().unwrap();
    let lines = told("lvs", &["--segments", "-o", "lv_name,vg_extent_size,seg_size,devices"]);
    let lines = lines.lines().map(|line| line.trim().split(';').collect::<Vec<_>>());
    lines
        .filter(|parts| parts[0] == volume)
        .map(|parts| {
            let extent: u64 = parts[1].parse().unwrap();
            let at: u64 = parts[3].rsplit_once('(').unwrap().1.trim_end_matches(')').parse().unwrap();
            (start + at * extent, parts[2].parse().unwrap())
        })
        .collect()
}

/// Works on the device of a volume of one range.
pub fn with_volume<T>(node: &Path, volume: &str, work: impl FnOnce(&Path) -> T) -> T {
    let [(offset, length)] = ranges(node, volume)[..] else { panic!("{:?}", ranges(node, volume)) };
    let (offset, length) = (offset.to_string(), length.to_string());
    let name = node.to_str().unwrap();
    let device = run("losetup", &["--find", "--show", "--offset", &offset, "--sizelimit", &length, name]);
    let device = device.trim();
    // Detached while it is open: so the kernel lets it go with its last user, also where `work` panics.
    let _open = fs::File::open(device).unwrap();
    run("losetup", &["--detach", device]);
    work(device.as_ref())
}

/// A disk whose root, and whose `/srv`, are logical volumes.
pub fn lvm_disk(fill: impl Fn(&Path) + Send + Sync) -> Image {
    let image = Image::partitioned(192, TABLE);
    in_mounts_of_its_own(|| {
        image.with_node(2, |node| {
            // The root last, so that it can grow and stay one range.
            make(node, &[("data", "32M"), ("root", "64M")]);
            for (volume, is_root) in [("data", false), ("root", true)] {
                with_volume(node, volume, |device| {
                    run("mkfs.ext4", &["-q", "-L", volume, device.to_str().unwrap()]);
                    mounted(device, "ext4", "", &image.target(), |target| {
                        if is_root {
                            fill(target);
                        } else {
                            fs::write(target.join("kept"), "data").unwrap();
                        }
                    });
                });
            }
        });
    });
    image
}

/// Whether this host can make such disks, and bake on them.
pub fn needed() -> bool {
    has(&["sfdisk", "mkfs.ext4", "lvm", "losetup", "e2fsck", "ldd", "timeout"])
}

/// By which names and UUIDs the group and its physical volume are known.
pub fn identity(image: &Image) -> String {
    image.with_node(2, |node| lvm(&[node], "vgs", &["--noheadings", "-o", "vg_name,vg_uuid,pv_uuid"]))
}
