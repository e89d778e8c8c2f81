//! A device or a raw disk's file that is the user's: what it is, before anything is done with it. Needs no root.

use std::fs::File;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::FcntlArg;

use super::block::Block;
use super::locate;
use crate::error::{Failure, Kind};
use crate::plan::DeviceFacts;

/// udev's names of EBS volumes, the volume's id without its dash behind it.
const LINKS: &str = "nvme-Amazon_Elastic_Block_Store_";

/// Looks at a device or a file that is to be baked in place.
///
/// # Errors
/// [`Kind::Base`] where it is not there, is neither a whole block device nor a file, or is in use; what is mounted
/// is told when it is opened.
pub fn look(path: &Path) -> Result<DeviceFacts> {
    let refuse = |why: String, hint: &str| {
        Failure::new(Kind::Base, format!("the device {} {why}", path.display())).hint(hint)
    };
    let name_one = "name a whole block device (/dev/nvme1n1) or the file of a raw disk";
    let metadata = path.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            refuse("is not there".to_owned(), "see lsblk; a path may be relative to the recipe's folder")
        }
        _ => refuse(format!("cannot be looked at: {error}"), name_one),
    })?;
    if metadata.is_file() {
        let whole = path.canonicalize().with_context(|| format!("resolving {}", path.display()))?;
        if metadata.len() == 0 {
            return Err(refuse("is an empty file".to_owned(), name_one).into());
        }
        if let Some(user) = user_of(&whole) {
            return Err(refuse(format!("is in use: {user}"), "end what uses it, then try again").into());
        }
        return Ok(DeviceFacts {
            path: whole,
            is_file: true,
            size: metadata.len(),
            volume: None,
            names: Vec::new(),
        });
    }
    if !metadata.file_type().is_block_device() {
        return Err(refuse("is neither a block device nor a file".to_owned(), name_one).into());
    }
    let block = Block::of(path)?;
    if let Some(disk) = block.disk() {
        let hint = format!("name the disk: /dev/{disk}");
        return Err(refuse("is a partition".to_owned(), &hint).into());
    }
    let size = block.size_by_sysfs()?;
    if size == 0 {
        return Err(refuse("has no size: nothing is attached to it".to_owned(), name_one).into());
    }
    Ok(DeviceFacts {
        volume: locate::volume_id(&block.name).or_else(|| linked(Path::new("/dev/disk/by-id"), &block.node)),
        names: names(path, &block.name),
        path: block.node,
        is_file: false,
        size,
    })
}

/// Who works with a file, as far as that is told without root: a loop device, or a program that locked it as
/// virtual machines lock their disks.
fn user_of(file: &Path) -> Option<String> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    for device in devices {
        let backing = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(backing.trim_end()) == file {
            return Some(format!("it is attached to /dev/{}", device.file_name().display()));
        }
    }
    let file = File::open(file).ok()?;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
    (i32::from(lock.l_type) != libc::F_UNLCK)
        .then(|| "another program has locked it (a virtual machine?)".to_owned())
}

/// The EBS volume whose link in a folder leads to a node.
fn linked(folder: &Path, node: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut ids: Vec<String> = entries
        .filter(|entry| entry.path().canonicalize().is_ok_and(|target| target == node))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let digits = name.strip_prefix(LINKS)?.strip_prefix("vol")?.to_owned();
            // Newer udev adds the namespace's number.
            let digits = digits.split(['_', '-']).next().unwrap_or_default();
            digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| format!("vol-{digits}"))
        })
        .collect();
    ids.sort();
    ids.into_iter().next()
}

/// The names under which it may have been attached: as it was typed, and the kernel's.
fn names(path: &Path, kernel: &str) -> Vec<String> {
    let typed = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = typed.into_iter().chain([kernel.to_owned()]).collect();
    names.dedup();
    names
}

impl Block {
    /// The disk that it is a partition of, if it is one.
    fn disk(&self) -> Option<String> {
        let folder = PathBuf::from("/sys/class/block").join(&self.name);
        if !folder.join("partition").exists() {
            return None;
        }
        Some(folder.canonicalize().ok()?.parent()?.file_name()?.to_str()?.to_owned())
    }

    /// Size in bytes, without opening it.
    fn size_by_sysfs(&self) -> Result<u64> {
        let path = PathBuf::from("/sys/class/block").join(&self.name).join("size");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let sectors: u64 = text.trim().parse().with_context(|| format!("reading {}", path.display()))?;
        Ok(sectors.saturating_mul(512))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    #[test]
    fn a_file_is_a_disk_unless_somebody_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        assert!(look(&path).unwrap_err().to_string().contains("is not there"));
        std::fs::write(&path, "").unwrap();
        assert!(look(&path).unwrap_err().to_string().contains("empty"));
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        let found = look(&path).unwrap();
        assert_eq!((found.is_file, found.size, found.volume), (true, 1 << 20, None));

        let mark = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 100,
            l_len: 1,
            l_pid: 0,
        };
        nix::fcntl::fcntl(&file, FcntlArg::F_OFD_SETLK(&mark)).unwrap();
        let error = look(&path).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Base);
        assert!(error.to_string().contains("locked"), "{error}");
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        for path in ["/dev/null", "/", "/proc/self/mounts"] {
            assert_eq!(kind_of(&look(Path::new(path)).unwrap_err()), Kind::Base, "{path}");
        }
    }

    #[test]
    fn a_link_of_udev_tells_the_volume() {
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().join("nvme1n1");
        std::fs::write(&node, "").unwrap();
        let node = node.canonicalize().unwrap();
        assert_eq!(linked(folder.path(), &node), None);
        std::os::unix::fs::symlink(&node, folder.path().join("nvme-nvme.1d0f-766f6c")).unwrap();
        std::os::unix::fs::symlink(&node, folder.path().join(format!("{LINKS}vol0abc1234def567890_1")))
            .unwrap();
        assert_eq!(linked(folder.path(), &node).as_deref(), Some("vol-0abc1234def567890"));
    }
}
