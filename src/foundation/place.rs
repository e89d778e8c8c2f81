//! Where a foundation is made that no bake makes: a folder to mount its root on, and one for what is needed meanwhile.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::bake::forget_work;

/// The first part of every such folder's name; the maker's PID follows.
const PREFIX: &str = "create-base-";

/// Such a place. It is locked as long as its maker lives.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    _alive: Flock<File>,
}

impl Place {
    /// Makes one in `work`, a tmpfs: what is in it (apt's settings, with a proxy's password) is on no disk.
    pub(super) fn new(work: &Path) -> Result<Self> {
        let making = || format!("making a folder in {}", work.display());
        std::fs::create_dir_all(work).with_context(making)?;
        loop {
            let prefix = format!("{PREFIX}{}-", std::process::id());
            let folder =
                tempfile::Builder::new().prefix(&prefix).tempdir_in(work).with_context(making)?.keep();
            // A sweep may have found it before it was locked, and removed it.
            let Some(alive) = lock(&folder).with_context(making)? else { continue };
            let place = Self { folder, _alive: alive };
            for folder in [place.root(), place.work()] {
                std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
            }
            return Ok(place);
        }
    }

    /// To mount the root on.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// For what is needed meanwhile.
    pub(super) fn work(&self) -> PathBuf {
        self.folder.join("step-bootstrap")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = forget_work(&self.folder) {
            tracing::warn!("{error:#}");
        }
    }
}

/// Locks a folder that is still there; none where another has it.
fn lock(folder: &Path) -> Result<Option<Flock<File>>> {
    let file = match File::open(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("opening {}", folder.display()))?,
    };
    let locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => locked,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(errno).with_context(|| format!("locking {}", folder.display())),
    };
    let (held, there) = (locked.metadata(), std::fs::symlink_metadata(folder));
    let same = held.is_ok_and(|held| there.is_ok_and(|there| held.ino() == there.ino()));
    Ok(same.then_some(locked))
}

/// Removes what makers of foundations that were killed left in `work`; gives it.
///
/// # Errors
/// What keeps it from being removed.
pub fn sweep(work: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(work) else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", work.display()))?;
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Some(_dead) = lock(&path)? else { continue };
        forget_work(&path)?;
        removed.push(path);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_with_its_maker_and_a_dead_makers_with_the_sweep() {
        let around = tempfile::tempdir().unwrap();
        let work = around.path().join("work");
        assert_eq!(sweep(&work).unwrap(), Vec::<PathBuf>::new());
        let place = Place::new(&work).unwrap();
        std::fs::write(place.work().join("apt.conf"), "password").unwrap();
        assert_eq!(sweep(&work).unwrap(), Vec::<PathBuf>::new(), "its maker lives");
        drop(place);
        assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0);

        let dead = work.join("create-base-1-x");
        std::fs::create_dir_all(dead.join("root")).unwrap();
        std::fs::create_dir_all(dead.join("step-bootstrap/bootstrap")).unwrap();
        std::fs::create_dir_all(work.join("bake-1")).unwrap();
        assert_eq!(sweep(&work).unwrap(), [dead]);
        assert!(work.join("bake-1").exists());
    }
}
