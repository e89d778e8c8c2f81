//! Roots of every filesystem in every layout, on disks that became larger.

use std::fs;

use bakehouse::disk::Filesystem;

use super::{BIOS_GUID, ESP_GUID, ROOT_GUID, mount, size_of};
use crate::support::host::{has, in_own_mounts, loops_of, run};
use crate::support::images::Image;

const TOOLS: &[&str] = &[
    "sfdisk",
    "sgdisk",
    "mkfs.ext4",
    "mkfs.xfs",
    "mkfs.btrfs",
    "e2fsck",
    "xfs_growfs",
    "xfs_repair",
    "btrfs",
];

/// Bakes on a root of each layout, with a disk that became larger; what is asserted is the disk opened again.
fn every_layout(filesystem: Filesystem, mib: u64) {
    if !has(TOOLS) {
        return;
    }
    let ubuntu = format!(
        "label: gpt\n14: size=4M,type={BIOS_GUID}\n15: size=8M,type={ESP_GUID}\n1: type={ROOT_GUID},name=root,attrs=LegacyBIOSBootable\n"
    );
    let layouts = [
        ("no table", 0, String::new()),
        ("GPT, first", 1, format!("label: gpt\ntype={ROOT_GUID}\n")),
        ("GPT, second", 2, format!("label: gpt\nsize=8M,type={ESP_GUID}\ntype=linux\n")),
        ("GPT as Ubuntu", 1, ubuntu),
        ("MBR, first", 1, "label: dos\ntype=83,bootable\n".to_owned()),
        ("MBR, second", 2, "label: dos\nsize=8M,type=82\ntype=83,bootable\n".to_owned()),
    ];
    in_own_mounts(move || {
        for (name, partition, script) in layouts {
            println!("{} on {name}", filesystem.name());
            let image = if partition == 0 { Image::empty(mib) } else { Image::partitioned(mib, &script) };
            let boot_code = [0xEB_u8, 0x63, 0x90, 0x11];
            if partition != 0 {
                image.write(0, &[(0, &boot_code)]);
            }
            image.with_root(partition, filesystem, "LABEL=root / auto defaults 0 1\n");
            let dump = || {
                if partition == 0 {
                    String::new()
                } else {
                    run("sfdisk", &["-d", image.path().to_str().unwrap()])
                }
            };
            let before = dump();
            image.extend(mib * 2);

            let root = mount(&image);
            assert_eq!(root.areas().len(), 1);
            let grown = size_of(root.path());
            assert!(root.areas()[0].length >= grown, "{name}: the root is told at its new size");
            assert!(grown > (mib * 3 / 2) << 20, "{name}: grown to {} MiB only", grown >> 20);
            fs::write(root.path().join("srv/made"), "by provisioning").unwrap();
            let _proof = root.provisioned().close().unwrap().proof();
            assert_eq!(loops_of(image.path()), [""; 0]);

            image.fsck(partition, filesystem);
            if partition != 0 {
                // All but the sizes is as it was: uuids, types, flags, names, and the boot code.
                let strip = |text: &str| -> String {
                    text.lines()
                        .filter(|line| !line.starts_with("last-lba"))
                        .map(|line| {
                            line.split(',')
                                .filter(|part| !part.trim().starts_with("size="))
                                .collect::<String>()
                                + "\n"
                        })
                        .collect()
                };
                assert_eq!(strip(&before), strip(&dump()), "{name}");
                assert_ne!(before, dump(), "{name}");
                assert_eq!(fs::read(image.path()).unwrap()[..4], boot_code);
            }
            if script.contains("gpt") {
                let said = run("sgdisk", &["-v", image.path().to_str().unwrap()]);
                assert!(said.contains("No problems found"), "{name}: {said}");
            }
            let root = mount(&image);
            assert_eq!(fs::read_to_string(root.path().join("srv/made")).unwrap(), "by provisioning");
            assert_eq!(size_of(root.path()), grown, "nothing is left to grow");
            root.abandon().unwrap();
        }
    });
}

#[test]
fn ext4_in_every_layout() {
    every_layout(Filesystem::Ext, 64);
}

#[test]
fn xfs_in_every_layout() {
    every_layout(Filesystem::Xfs, 340);
}

#[test]
fn btrfs_in_every_layout() {
    every_layout(Filesystem::Btrfs, 160);
}
