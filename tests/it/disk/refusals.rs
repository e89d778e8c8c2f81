//! Disks that cannot be used: each is refused with one clear message, and nothing is left.

use std::time::{Duration, Instant};

use bakehouse::disk::{Disk, Filesystem};
use bakehouse::error::{Kind, kind_of};
use bakehouse::plan::Locator;

use super::{WAIT, open, refusal};
use crate::support::host::{has, in_own_mounts, run};
use crate::support::images::Image;

const TWO: &str = "label: gpt\nsize=24M,type=linux\ntype=linux\n";
const LUKS: &[u8] = b"LUKS\xba\xbe\x00\x02";

/// An LVM physical volume's label: the second sector, with LVM's own checksum.
pub fn lvm_label() -> Vec<u8> {
    let mut sector = vec![0_u8; 512];
    sector[..8].copy_from_slice(b"LABELONE");
    sector[8..16].copy_from_slice(&1_u64.to_le_bytes());
    sector[20..24].copy_from_slice(&32_u32.to_le_bytes());
    sector[24..32].copy_from_slice(b"LVM2 001");
    sector[32..64].copy_from_slice(b"abcdef0123456789abcdef0123456789");
    let mut sum = 0xF597_A6CF_u32;
    for byte in &sector[20..] {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 };
        }
    }
    sector[16..20].copy_from_slice(&sum.to_le_bytes());
    sector
}

#[test]
fn what_holds_no_root_is_named() {
    if !has(&["sfdisk", "mkfs.ext4", "mkswap", "blkid", "lvm"]) {
        return;
    }
    in_own_mounts(|| {
        let empty = Image::empty(8);
        let (message, hint) = refusal(&empty, None);
        assert!(message.contains("neither a partition nor a filesystem"), "{message}");
        assert!(!hint.is_empty());

        let lvm = Image::partitioned(64, TWO);
        lvm.write(2, &[(512, &lvm_label())]);
        let (message, hint) = refusal(&lvm, None);
        assert!(message.contains("partition 2 (LVM physical volume"), "{message}");
        assert!(hint.contains("no logical volume"), "{hint}");
        assert!(refusal(&lvm, Some(2)).1.contains("LVM"));

        let luks = Image::partitioned(64, TWO);
        luks.write(2, &[(0, LUKS)]);
        let (message, hint) = refusal(&luks, None);
        assert!(message.contains("partition 2 (LUKS, encrypted"), "{message}");
        assert!(hint.contains("encrypted"), "{hint}");
        let whole = Image::empty(8);
        whole.write(0, &[(0, LUKS)]);
        assert!(refusal(&whole, None).0.contains("the whole disk (LUKS"));

        let swap = Image::partitioned(64, TWO);
        swap.with_node(1, |node| run("mkswap", &[node.to_str().unwrap()]));
        swap.format(2, Filesystem::Ext, "data", |_| ());
        let (message, hint) = refusal(&swap, None);
        assert!(message.contains("partition 1 (swap"), "{message}");
        assert!(message.contains("partition 2 (ext4, label data, 38 MiB): no /etc/os-release"), "{message}");
        assert!(hint.contains("--partition"), "{hint}");
        let (message, _) = refusal(&swap, Some(3));
        assert!(message.contains("no partition 3; it has: partition 1 (swap"), "{message}");
    });
}

#[test]
fn two_roots_are_listed() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = Image::partitioned(64, TWO);
        image.with_root(1, Filesystem::Ext, "").with_root(2, Filesystem::Ext, "");
        let (message, hint) = refusal(&image, None);
        assert!(
            message.contains("more than one root: partition 1 (ext4, label root, 24 MiB); partition 2"),
            "{message}"
        );
        assert_eq!(hint, "say which with --partition 1 or 2");
    });
}

#[test]
fn a_root_that_cannot_grow_says_what_is_in_the_way() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = Image::partitioned(64, TWO);
        image.with_root(1, Filesystem::Ext, "");
        image.extend(4096);
        let (message, hint) = refusal(&image, None);
        assert!(message.contains("partition 2 lies between"), "{message}");
        assert!(hint.contains("size"), "{hint}");
    });
}

#[test]
fn a_damaged_root_is_not_baked_on() {
    if !has(&["mkfs.ext4", "mkfs.xfs", "debugfs"]) {
        return;
    }
    in_own_mounts(|| {
        let ext4 = Image::empty(64);
        ext4.with_root(0, Filesystem::Ext, "");
        // Known to have errors, and a folder has no parent: too much to mend without asking.
        let file = ext4.path().to_str().unwrap();
        run("debugfs", &["-w", "-R", "unlink srv/..", file]);
        run("debugfs", &["-w", "-R", "ssv state 2", file]);
        let (message, hint) = refusal(&ext4, None);
        assert!(message.contains("the filesystem of the whole disk is damaged"), "{message}");
        assert!(message.contains("`e2fsck -p /dev/loop") && message.contains("status: 4"), "{message}");
        assert!(hint.contains("e2fsck -f"), "{hint}");

        // So much damage that not even a look at it finds a root.
        run("debugfs", &["-w", "-R", "clri /usr", file]);
        let (message, hint) = refusal(&ext4, None);
        assert!(message.contains("the whole disk (ext4, label root, 64 MiB) is damaged"), "{message}");
        assert!(hint.contains("repair the base"), "{hint}");

        let xfs = Image::empty(320);
        xfs.with_root(0, Filesystem::Xfs, "");
        // The root inode's magic.
        xfs.write(0, &[(128 * 512, &[0; 4096])]);
        let (message, _) = refusal(&xfs, None);
        assert!(message.contains("the xfs filesystem on /dev/loop"), "{message}");
    });
}

#[test]
fn a_disk_cut_short_is_refused() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = Image::partitioned(64, "label: dos\ntype=83\n");
        image.with_root(1, Filesystem::Ext, "");
        image.extend(32);
        let (message, hint) = refusal(&image, None);
        assert!(message.contains("partition 1 ends behind the end of"), "{message}");
        assert!(hint.contains("cut short"), "{hint}");
    });
}

#[test]
fn one_file_is_not_attached_twice() {
    if !has(&[]) {
        return;
    }
    let image = Image::empty(8);
    let first = open(&image);
    let error = Disk::open(&Locator::File(image.path().to_owned()), WAIT).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Disk);
    assert!(format!("{error:#}").contains("in use by another process"), "{error:#}");
    first.release().unwrap();
    open(&image).release().unwrap();
}

#[test]
fn a_volume_that_does_not_come_is_waited_for_no_longer_than_asked() {
    let locator = Locator::Volume { id: "vol-00000000000000000".into(), device_name: "/dev/sdzz".into() };
    let start = Instant::now();
    let error = Disk::open(&locator, Duration::from_millis(200)).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(5));
    assert_eq!(kind_of(&error), Kind::Disk);
    assert!(format!("{error:#}").contains("vol-00000000000000000"), "{error:#}");
}
