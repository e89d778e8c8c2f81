//! What else is mounted: /boot, subvolumes, partitions of the image's fstab; and roots that need mending first.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bakehouse::disk::{Disk, Filesystem, MountOptions, MountedRoot};
use bakehouse::plan::Locator;

use super::{BIOS_GUID, ESP_GUID, ROOT_GUID, WAIT, mount, open, options};
use crate::support::host::{has, in_own_mounts, run};
use crate::support::images::{Image, fill_root, mounted};

fn numbers(root: &MountedRoot) -> Vec<u32> {
    root.areas().iter().filter_map(|area| area.number).collect()
}

/// The least that mkfs.vfat would write, as it may not be there: FAT16, 8 MiB.
fn fat16() -> Vec<(u64, Vec<u8>)> {
    let mut sector = vec![0_u8; 512];
    sector[..11].copy_from_slice(b"\xEB\x3C\x90mkfs.fat");
    sector[11..13].copy_from_slice(&512_u16.to_le_bytes());
    sector[13] = 2; // sectors per cluster
    sector[14..16].copy_from_slice(&4_u16.to_le_bytes()); // reserved
    sector[16] = 2; // tables
    sector[17..19].copy_from_slice(&512_u16.to_le_bytes()); // root entries
    sector[19..21].copy_from_slice(&16384_u16.to_le_bytes()); // sectors
    sector[21] = 0xF8;
    sector[22..24].copy_from_slice(&32_u16.to_le_bytes()); // sectors per table
    sector[38] = 0x29;
    sector[39..43].copy_from_slice(&0xABCD_1234_u32.to_le_bytes());
    sector[43..54].copy_from_slice(b"UEFI       ");
    sector[54..62].copy_from_slice(b"FAT16   ");
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    let table = vec![0xF8, 0xFF, 0xFF, 0xFF];
    vec![(0, sector), (4 * 512, table.clone()), (36 * 512, table)]
}

#[test]
fn ubuntus_boot_and_efi_partitions_are_mounted() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let script = format!(
            "label: gpt\n14: size=1M,type={BIOS_GUID}\n15: size=8M,type={ESP_GUID}\n16: size=16M,type=linux\n1: type={ROOT_GUID}\n"
        );
        let image = Image::partitioned(96, &script);
        let fstab = "LABEL=root / ext4 defaults 0 1\nLABEL=BOOT /boot ext4 defaults 0 2\n\
            LABEL=UEFI /boot/efi vfat umask=0077 0 1\nLABEL=elsewhere /srv ext4 defaults 0 2\n";
        image.with_root(1, Filesystem::Ext, fstab);
        image.format(16, Filesystem::Ext, "BOOT", |boot| fs::create_dir(boot.join("efi")).unwrap());
        let fat = fat16();
        image.write(15, &fat.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect::<Vec<_>>());

        let root = mount(&image);
        // A kernel without vfat cannot mount the EFI system partition: then the bake goes on without it.
        let vfat = fs::read_to_string("/proc/filesystems").unwrap().contains("vfat");
        assert_eq!(numbers(&root), if vfat { vec![1, 16, 15] } else { vec![1, 16] });
        fs::write(root.path().join("boot/vmlinuz"), "kernel").unwrap();
        root.provisioned().close().unwrap();
        image.with_node(16, |node| {
            mounted(node, "ext4", "", &image.target(), |boot| {
                assert_eq!(fs::read_to_string(boot.join("vmlinuz")).unwrap(), "kernel");
            });
        });
    });
}

#[test]
fn a_mount_point_does_not_lead_out_of_the_image() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let outside = tempfile::tempdir().unwrap();
        let image = Image::partitioned(64, "label: gpt\nsize=16M,type=linux\ntype=linux\n");
        let fstab = "LABEL=BOOT /boot ext4 defaults 0 2\n";
        let link = outside.path().to_owned();
        image.format(1, Filesystem::Ext, "BOOT", |boot| fs::write(boot.join("vmlinuz"), "").unwrap());
        image.format(2, Filesystem::Ext, "root", move |root| {
            fill_root(root, fstab);
            fs::remove_dir(root.join("boot")).unwrap();
            symlink(link, root.join("boot")).unwrap();
            // The same path inside the image: where the link leads to from there.
            let inside = root.join(fs::read_link(root.join("boot")).unwrap().strip_prefix("/").unwrap());
            fs::create_dir_all(inside).unwrap();
        });
        let root = mount(&image);
        assert_eq!(numbers(&root), [2, 1]);
        assert!(!outside.path().join("vmlinuz").exists());
        assert!(root.path().join(outside.path().strip_prefix("/").unwrap()).join("vmlinuz").exists());
        root.provisioned().close().unwrap();
    });
}

#[test]
fn a_missing_mount_point_is_made() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = Image::partitioned(64, "label: dos\nsize=16M,type=83\ntype=83\n");
        image.format(1, Filesystem::Ext, "var", |_| ());
        image.with_root(
            2,
            Filesystem::Ext,
            "/dev/sda2 / ext4 defaults 0 1\n/dev/sda1 /data/deep ext4 noexec 0 2\n",
        );
        let root = mount(&image);
        assert_eq!(numbers(&root), [2, 1]);
        assert!(root.path().join("data/deep/lost+found").exists());
        root.provisioned().close().unwrap();
    });
}

#[test]
fn btrfs_subvolumes_are_mounted_as_the_fstab_says() {
    if !has(&["sfdisk", "mkfs.btrfs", "btrfs"]) {
        return;
    }
    in_own_mounts(|| {
        let image = Image::partitioned(200, "label: gpt\ntype=linux\n");
        let fstab =
            "LABEL=root / btrfs compress=zstd:1,subvol=@ 0 0\nLABEL=root /home btrfs subvol=/@home 0 0\n";
        image.format(1, Filesystem::Btrfs, "root", |top| {
            for name in ["@", "@home", "@old"] {
                run("btrfs", &["-q", "subvolume", "create", top.join(name).to_str().unwrap()]);
            }
            fill_root(&top.join("@"), fstab);
            // An older state of the root: its fstab names the present one.
            fill_root(&top.join("@old"), fstab);
            fs::write(top.join("@home/there"), "").unwrap();
        });
        image.extend(300);
        let root = mount(&image);
        assert!(root.path().join("home/there").exists());
        fs::write(root.path().join("srv/made"), "x").unwrap();
        root.provisioned().close().unwrap();
        image.fsck(1, Filesystem::Btrfs);
        image.with_node(1, |node| {
            mounted(node, "btrfs", "subvol=@", &image.target(), |root| {
                assert!(root.join("srv/made").exists())
            });
        });
    });
}

#[test]
fn a_root_that_was_not_unmounted_is_mended() {
    if !has(&["mkfs.ext4", "mkfs.xfs", "cp"]) {
        return;
    }
    in_own_mounts(|| {
        for (filesystem, mib) in [(Filesystem::Ext, 64), (Filesystem::Xfs, 320)] {
            let image = Image::empty(mib);
            image.with_root(0, filesystem, "");
            let mut torn = None;
            image.with_node(0, |node| {
                mounted(node, filesystem.name(), "", &image.target(), |root| {
                    fs::write(root.join("srv/late"), "written").unwrap();
                    nix::unistd::syncfs(fs::File::open(root).unwrap()).unwrap();
                    fs::File::open(node).unwrap().sync_all().unwrap();
                    torn = Some(image.copy());
                });
            });
            let torn = torn.unwrap();
            let root = mount(&torn);
            assert_eq!(fs::read_to_string(root.path().join("srv/late")).unwrap(), "written");
            root.provisioned().close().unwrap();
            torn.fsck(0, filesystem);
        }
    });
}

#[test]
fn a_partition_by_number_is_the_root() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = Image::partitioned(64, "label: gpt\nsize=24M,type=linux\ntype=linux\n");
        image.with_root(1, Filesystem::Ext, "").with_root(2, Filesystem::Ext, "");
        for number in [1, 2] {
            let options = MountOptions { partition: Some(number), grow: false, ..options(&image) };
            let root = open(&image).mount(&options).unwrap();
            assert_eq!(numbers(&root), [number]);
            root.abandon().unwrap();
        }
    });
}

#[test]
fn a_volume_is_found_by_its_device_name_and_left_as_it_was() {
    if !has(&["sfdisk", "mkfs.ext4", "losetup"]) {
        return;
    }
    let nvme = fs::read_dir("/sys/class/nvme").is_ok_and(|mut entries| entries.next().is_some());
    if crate::support::skipped(nvme.then_some("this host's own disks are NVMe: names prove nothing here")) {
        return;
    }
    in_own_mounts(|| {
        let image = Image::partitioned(64, "label: gpt\ntype=linux\n");
        image.with_root(1, Filesystem::Ext, "");
        // A loop device that is somebody else's stands for the volume that EC2 attached under that name.
        let node = run("losetup", &["-f", "--show", image.path().to_str().unwrap()]).trim().to_owned();
        let detach = scopeguard(node.clone());
        let locator = Locator::Volume { id: "vol-0123456789abcdef0".into(), device_name: node.clone() };
        let root = Disk::open(&locator, WAIT).unwrap().mount(&options(&image)).unwrap();
        let busy = Disk::open(&locator, WAIT).unwrap_err();
        assert!(format!("{busy:#}").contains("in use"), "{busy:#}");
        root.provisioned().close().unwrap();
        assert!(Path::new(&node).exists());
        assert!(!PathBuf::from(format!("{node}p1")).exists(), "the partition that we added is gone");
        drop(detach);
    });
}

/// Detaches a loop device of losetup's, pass or fail.
fn scopeguard(node: String) -> impl Drop {
    struct Detach(String);
    impl Drop for Detach {
        fn drop(&mut self) {
            run("losetup", &["-d", &self.0]);
        }
    }
    Detach(node)
}
