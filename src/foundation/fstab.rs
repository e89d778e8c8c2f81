//! The fstab of a root from scratch.

use std::path::Path;

use anyhow::Result;

use super::write_new;
use crate::beneath;
use crate::disk::LaidOut;
use crate::recipe::RootFilesystem;

/// Writes one where the bootstrap left none, or one that says nothing.
pub(super) fn write(root: &Path, laid: &LaidOut) -> Result<()> {
    let there = beneath::read_to_string(root, Path::new("etc/fstab"))?.unwrap_or_default();
    if says_something(&there) {
        return Ok(());
    }
    if laid.esp.is_some() {
        super::folder_in(root, "boot/efi")?;
    }
    write_new(root, "etc", "fstab", &text(laid))
}

fn says_something(fstab: &str) -> bool {
    fstab.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'))
}

fn text(laid: &LaidOut) -> String {
    let (options, pass) = match laid.filesystem {
        RootFilesystem::Ext4 => ("rw,discard,errors=remount-ro,x-systemd.growfs", 1),
        RootFilesystem::Xfs | RootFilesystem::Btrfs => ("rw,discard,x-systemd.growfs", 0),
    };
    let mut text = format!("UUID={} / {} {options} 0 {pass}\n", laid.uuid, laid.filesystem.as_str());
    if let Some((_, uuid)) = &laid.esp {
        text.push_str(&format!("UUID={uuid} /boot/efi vfat umask=0077 0 2\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_and_what_boots_it_by_uuid() {
        let mut laid = LaidOut {
            disk: "/dev/x".into(),
            root: "/dev/x1".into(),
            filesystem: RootFilesystem::Ext4,
            uuid: "u-1".into(),
            bios: None,
            esp: None,
        };
        assert_eq!(text(&laid), "UUID=u-1 / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n");
        laid.filesystem = RootFilesystem::Btrfs;
        laid.esp = Some(("/dev/x15".into(), "AB12-CD34".into()));
        let text = text(&laid);
        assert!(
            text.contains("btrfs rw,discard,x-systemd.growfs 0 0\nUUID=AB12-CD34 /boot/efi vfat"),
            "{text}"
        );
    }

    #[test]
    fn the_bootstraps_own_stays() {
        assert!(!says_something("# UNCONFIGURED FSTAB FOR BASE SYSTEM\n\n"));
        assert!(says_something("# x\nLABEL=root / ext4 defaults 0 1\n"));
    }
}
