//! The few numbers of a filesystem's superblock that decide whether it must grow and whether it was closed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::survey::Filesystem;

/// Enough of each superblock for what is read here.
const LENGTH: usize = 512;

/// What a superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// The filesystem's size in bytes.
    pub size: u64,
    /// Whether it says that it was unmounted in order; `None` where the superblock alone cannot tell (XFS).
    pub clean: Option<bool>,
}

/// Reads a filesystem's superblock from its device.
pub(super) fn read(node: &Path, filesystem: Filesystem) -> Result<Superblock> {
    let reading = || format!("reading the superblock of {}", node.display());
    let file = File::open(node).with_context(reading)?;
    let mut bytes = [0_u8; LENGTH];
    file.read_exact_at(&mut bytes, offset(filesystem)).with_context(reading)?;
    parse(&bytes, filesystem)
        .with_context(|| format!("{} holds no {} superblock", node.display(), filesystem.name()))
}

fn offset(filesystem: Filesystem) -> u64 {
    match filesystem {
        Filesystem::Ext => 1024,
        Filesystem::Xfs => 0,
        Filesystem::Btrfs => 64 << 10,
    }
}

/// Reads a superblock's bytes; `None` where they are none of that filesystem.
pub fn parse(bytes: &[u8], filesystem: Filesystem) -> Option<Superblock> {
    match filesystem {
        // Linux Documentation/filesystems/ext4/super.rst.
        Filesystem::Ext => {
            const RECOVER: u32 = 0x4;
            const SIXTY_FOUR_BITS: u32 = 0x80;
            const VALID: u16 = 1;
            (at(bytes, 0x38)? == [0x53, 0xEF]).then_some(())?;
            let incompatible = u32::from_le_bytes(at(bytes, 0x60)?);
            let high =
                if incompatible & SIXTY_FOUR_BITS != 0 { u32::from_le_bytes(at(bytes, 0x150)?) } else { 0 };
            let blocks = u64::from(high) << 32 | u64::from(u32::from_le_bytes(at(bytes, 0x4)?));
            let block = 1024_u64.checked_shl(u32::from_le_bytes(at(bytes, 0x18)?).min(16))?;
            let state = u16::from_le_bytes(at(bytes, 0x3A)?);
            let clean = state & VALID != 0 && incompatible & RECOVER == 0;
            Some(Superblock { size: blocks.checked_mul(block)?, clean: Some(clean) })
        }
        // struct xfs_dsb: magic, block size, data blocks; big-endian.
        Filesystem::Xfs => {
            (at(bytes, 0)? == *b"XFSB").then_some(())?;
            let block = u64::from(u32::from_be_bytes(at(bytes, 4)?));
            Some(Superblock { size: u64::from_be_bytes(at(bytes, 8)?).checked_mul(block)?, clean: None })
        }
        // struct btrfs_super_block: magic at 0x40, log_root at 0x60, total_bytes at 0x70.
        Filesystem::Btrfs => {
            (at(bytes, 0x40)? == *b"_BHRfS_M").then_some(())?;
            let clean = u64::from_le_bytes(at(bytes, 0x60)?) == 0;
            Some(Superblock { size: u64::from_le_bytes(at(bytes, 0x70)?), clean: Some(clean) })
        }
    }
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_ext4() {
        let mut bytes = [0_u8; LENGTH];
        bytes[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
        bytes[0x4..0x8].copy_from_slice(&16384_u32.to_le_bytes());
        bytes[0x18] = 2;
        bytes[0x3A] = 1;
        let clean = Superblock { size: 64 << 20, clean: Some(true) };
        assert_eq!(parse(&bytes, Filesystem::Ext), Some(clean));
        bytes[0x60] = 0x4;
        assert_eq!(parse(&bytes, Filesystem::Ext).unwrap().clean, Some(false));
        assert_eq!(parse(&bytes, Filesystem::Xfs), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes: Vec<u8>) {
            for filesystem in [Filesystem::Ext, Filesystem::Xfs, Filesystem::Btrfs] {
                let _superblock = parse(&bytes, filesystem);
            }
        }
    }
}
