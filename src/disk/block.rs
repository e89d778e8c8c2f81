//! A block device as the kernel shows it: its node, its name in sysfs, its size, the partitions it is known to have.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;

use super::{holders, wait};
use crate::error::{Failure, Kind};
use crate::sys;

/// Sysfs counts in these, whatever the device's own sectors are.
const SYSFS_SECTOR: u64 = 512;

/// A whole block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// The kernel's name, `nvme1n1`.
    pub(super) name: String,
    /// Its node, `/dev/nvme1n1`.
    pub(super) node: PathBuf,
}

/// A partition as the kernel knows it; bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) number: u32,
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Block {
    /// The device behind a node or a link to one.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let metadata = path.metadata().with_context(|| format!("looking at {}", path.display()))?;
        if !metadata.file_type().is_block_device() {
            bail!("{} is not a block device", path.display());
        }
        let (major, minor) = numbers(metadata.rdev());
        let link = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let target = link.read_link().with_context(|| format!("reading {}", link.display()))?;
        let name = target
            .file_name()
            .and_then(|name| name.to_str())
            .with_context(|| format!("{} names no device", target.display()))?
            .to_owned();
        let node = Path::new("/dev").join(&name);
        Ok(Self { name, node })
    }

    fn sysfs(&self) -> PathBuf {
        Path::new("/sys/class/block").join(&self.name)
    }

    /// The name that the kernel gives to a partition: a `p` goes between where the disk's name ends in a digit.
    pub(super) fn partition_name(&self, number: u32) -> String {
        let p = if self.name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        format!("{}{p}{number}", self.name)
    }

    /// A partition's node.
    pub(super) fn partition_node(&self, number: u32) -> PathBuf {
        Path::new("/dev").join(self.partition_name(number))
    }

    /// Opens the device for reading, and for requests that need no more.
    pub(super) fn open(&self) -> Result<File> {
        File::open(&self.node).with_context(|| format!("opening {}", self.node.display()))
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> Result<u64> {
        sys::device_size(self.open()?.as_fd())
            .with_context(|| format!("asking for the size of {}", self.node.display()))
    }

    /// The partitions that the kernel knows, by number.
    pub(super) fn known(&self) -> Result<Vec<Known>> {
        let folder = self.sysfs();
        let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        let mut known = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            // One that goes away between the listing and the reading is one that is not there.
            let read = |field: &str| -> Option<u64> {
                std::fs::read_to_string(path.join(field)).ok()?.trim().parse().ok()
            };
            let (Some(number), Some(start), Some(length)) = (read("partition"), read("start"), read("size"))
            else {
                continue;
            };
            known.push(Known {
                number: u32::try_from(number).unwrap_or(u32::MAX),
                start: start.saturating_mul(SYSFS_SECTOR),
                length: length.saturating_mul(SYSFS_SECTOR),
            });
        }
        known.sort_by_key(|partition| partition.number);
        Ok(known)
    }

    /// Makes the kernel forget a partition. Waits for those who only pass by, as udev and other tools that look at
    /// every device do.
    pub(super) fn forget(&self, disk: &File, number: u32) -> Result<()> {
        let removing = || format!("removing {}", self.partition_node(number).display());
        let gone = wait::until(wait::SETTLE, || match sys::partition_delete(disk.as_fd(), number) {
            Ok(()) | Err(Errno::ENXIO) => Ok(Some(())),
            Err(Errno::EBUSY) => Ok(None),
            Err(errno) => Err(errno).with_context(removing),
        })?;
        gone.ok_or_else(|| {
            let holders = holders::of_device(&self.partition_node(number));
            let message = format!("it is still in use, {}", holders::sentence(&holders));
            anyhow::Error::from(Failure::new(Kind::Disk, message).hint("end what holds it"))
        })
        .with_context(removing)
    }

    /// Waits until nobody has the device, or a filesystem on any of its partitions, for himself.
    pub(super) fn unused(&self) -> Result<()> {
        match exclusively(&self.node)? {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::Disk,
                format!("{} is in use: it or one of its partitions is mounted or held", self.node.display()),
            )
            .hint(format!("see who: lsblk {0}; grep {0} /proc/*/mounts", self.node.display()))
            .into()),
        }
    }
}

/// Whether a node can be had exclusively within the time that transient users need.
pub(super) fn exclusively(node: &Path) -> Result<bool> {
    let free = wait::until(wait::SETTLE, || {
        match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(node) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("opening {} exclusively", node.display())),
        }
    })?;
    Ok(free.is_some())
}

/// Major and minor number.
pub(super) fn numbers(device: u64) -> (u64, u64) {
    (nix::sys::stat::major(device), nix::sys::stat::minor(device))
}

/// Waits for a node to appear in /dev.
pub(super) fn node_appears(node: &Path) -> Result<()> {
    match wait::until(wait::SETTLE, || Ok(node.exists().then_some(())))? {
        Some(()) => Ok(()),
        None => bail!("{} did not appear in /dev within {} s", node.display(), wait::SETTLE.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_the_kernel_does() {
        let block = |name: &str| Block { name: name.into(), node: Path::new("/dev").join(name) };
        assert_eq!(block("nvme1n1").partition_name(15), "nvme1n1p15");
        assert_eq!(block("loop0").partition_node(1), Path::new("/dev/loop0p1"));
        assert_eq!(block("xvdf").partition_name(1), "xvdf1");
    }

    #[test]
    fn a_plain_file_is_no_device() {
        assert!(Block::of(Path::new("/etc/passwd")).is_err());
        assert!(Block::of(Path::new("/no/such")).is_err());
    }
}
