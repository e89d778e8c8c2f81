//! Device names to ask for at attachment, and the lock that keeps two bakes of a host from asking for the same.
//!
//! From "Device names for volumes on Linux instances" of the EC2 user guide: `/dev/sd[f-p]` is recommended for
//! EBS; `/dev/sd[q-z]` and `/dev/xvd[b-d][a-z]` are available too, and are what instances with more than 28
//! volumes need. `/dev/sd[a-e]` is left alone (root and instance stores).

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A device name that this process alone asks for, until it is dropped.
#[derive(Debug)]
pub(super) struct DeviceName {
    _lock: Flock<File>,
}

/// All names, the recommended ones first.
pub(super) fn all() -> impl Iterator<Item = String> {
    let short = ('f'..='z').map(|letter| format!("/dev/sd{letter}"));
    let long =
        ('b'..='d').flat_map(|first| ('a'..='z').map(move |second| format!("/dev/xvd{first}{second}")));
    short.chain(long)
}

/// The names that are free by what EC2 says is attached.
pub(super) fn free<'a>(attached: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    let taken: BTreeSet<String> = attached.map(|name| letters(name).to_owned()).collect();
    all().filter(move |name| !taken.contains(letters(name)))
}

/// `f` of `/dev/sdf`, `/dev/xvdf` and `/dev/sdf1`: the same device for a Xen guest.
pub(super) fn letters(name: &str) -> &str {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let name = name.strip_prefix("xvd").or_else(|| name.strip_prefix("sd")).unwrap_or(name);
    name.trim_end_matches(|digit: char| digit.is_ascii_digit())
}

impl DeviceName {
    /// Locks a name, unless another bake of this host has it.
    pub(super) fn lock(folder: &Path, name: &str) -> Result<Option<Self>> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .with_context(|| format!("making the folder {}", folder.display()))?;
        // Left in place when let go: a file removed while another bake opens it would lock nothing.
        let path = folder.join(letters(name));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening the device name's lock {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Self { _lock: lock })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno).with_context(|| format!("locking {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recommended_names_come_first_and_none_twice() {
        let names: Vec<_> = all().collect();
        assert_eq!(names[..2], ["/dev/sdf", "/dev/sdg"]);
        assert_eq!(names[21], "/dev/xvdba");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 21 + 3 * 26);
    }

    #[test]
    fn a_name_in_use_is_skipped_however_it_is_spelt() {
        let used = ["/dev/sda1", "/dev/xvdf", "/dev/sdg", "sdh", "/dev/xvdba"];
        let names: Vec<_> = free(used.into_iter()).collect();
        assert_eq!(names[0], "/dev/sdi");
        assert!(names.contains(&"/dev/xvdbb".to_owned()) && !names.contains(&"/dev/xvdba".to_owned()));
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("devices");
        let held = DeviceName::lock(&folder, "/dev/sdf").unwrap().unwrap();
        assert!(DeviceName::lock(&folder, "/dev/xvdf").unwrap().is_none());
        assert!(DeviceName::lock(&folder, "/dev/sdg").unwrap().is_some());
        drop(held);
        assert!(DeviceName::lock(&folder, "/dev/sdf").unwrap().is_some());
    }
}
