//! Bakes on every filesystem in every layout, onto a disk that is larger than the base.

use std::fs;

use bakehouse::disk::Filesystem;

use super::small::RECIPE;
use crate::support::bakery::{Bakery, shell_disk};
use crate::support::host::has;

const ROOT_GUID: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
const ESP_GUID: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const BIOS_GUID: &str = "21686148-6449-6E6F-744E-656564454649";

fn bakes_and_grows(filesystem: Filesystem, mib: u64, layouts: &[(&str, u32, &str)]) {
    let tools = ["sfdisk", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "xfs_repair", "btrfs", "ldd", "timeout"];
    if !has(&tools) {
        return;
    }
    let bakery = Bakery::new();
    bakery.put("setup.sh", "#!/bin/sh\necho baked > /srv/mark\n");
    for (name, partition, script) in layouts {
        let disk = shell_disk(mib, script, (*partition, filesystem), |_| ());
        bakery.base(name, disk.path());
        let recipe = RECIPE.replace("\"small", &format!("\"{name}"));
        let ran = bakery.bake(&recipe, &["--size", "1GiB"]);
        let told = ran.told();
        let image = ran.id();
        let record = bakery.store().image(&image).unwrap();
        assert_eq!(record.size, 1 << 30, "{name}");
        bakery.look(&image, *partition, filesystem.name(), |root| {
            assert_eq!(fs::read_to_string(root.join("srv/mark")).unwrap(), "baked\n", "{name}: {told}");
            let size = nix::sys::statvfs::statvfs(root).unwrap();
            let bytes = size.blocks() as u64 * size.fragment_size() as u64;
            assert!(bytes > 800 << 20, "{name} grew to {} MiB only: {told}", bytes >> 20);
        });
    }
    bakery.assert_nothing_left();
}

#[test]
fn ext4_in_every_layout() {
    let ubuntu = format!(
        "label: gpt\n14: size=4M,type={BIOS_GUID}\n15: size=8M,type={ESP_GUID}\n1: type={ROOT_GUID}\n"
    );
    bakes_and_grows(
        Filesystem::Ext,
        64,
        &[
            ("no-table", 0, ""),
            ("gpt-second", 2, &format!("label: gpt\nsize=8M,type={ESP_GUID}\ntype=linux\n")),
            ("ubuntu", 1, &ubuntu),
            ("mbr", 1, "label: dos\ntype=83,bootable\n"),
        ],
    );
}

#[test]
fn xfs_and_btrfs() {
    bakes_and_grows(
        Filesystem::Xfs,
        340,
        &[("xfs-gpt", 1, &format!("label: gpt\ntype={ROOT_GUID}\n")), ("xfs-whole", 0, "")],
    );
    bakes_and_grows(Filesystem::Btrfs, 160, &[("btrfs-mbr", 2, "label: dos\nsize=8M,type=82\ntype=83\n")]);
}
