//! The sandbox's own filesystems in a root: in these alone it makes what is missing. Paths are resolved beneath
//! the root ([`crate::beneath`]).

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat, mkdirat};

use crate::beneath::resolve;

/// Opens a folder beneath `root`, `O_PATH`.
pub(super) fn open_folder(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    resolve(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY)
}

/// The filesystems that are the sandbox's own: in these alone something may be made.
#[derive(Debug, Default)]
pub(super) struct Own(Vec<u64>);

impl Own {
    /// Adds the filesystem of an open mount.
    pub(super) fn add(&mut self, mount: BorrowedFd<'_>) -> Result<()> {
        self.0.push(fstat(mount).context("looking at a mount of the sandbox")?.st_dev);
        Ok(())
    }

    /// Whether an open folder is in one of them.
    pub(super) fn has(&self, folder: BorrowedFd<'_>) -> Result<bool> {
        Ok(self.0.contains(&fstat(folder).context("looking at a folder of the root")?.st_dev))
    }

    /// Opens the folder `path` beneath `root`, making what is missing of it where that would be made in one
    /// of the sandbox's own filesystems. None: it is missing, and in the image.
    pub(super) fn folder(&self, root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
        let mut so_far = PathBuf::new();
        let mut folder = open_folder(root, Path::new("."))?;
        for component in path.components() {
            let name = match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => Path::new(".."),
                Component::Normal(name) => Path::new(name),
            };
            so_far.push(name);
            folder = match open_folder(root, &so_far) {
                Ok(next) => next,
                Err(Errno::ENOENT) if self.has(folder.as_fd())? => {
                    match mkdirat(&folder, name, Mode::from_bits_truncate(0o755)) {
                        Ok(()) => open_folder(root, &so_far)?,
                        // A link that leads nowhere.
                        Err(Errno::EEXIST) => return Ok(None),
                        Err(errno) => return Err(errno).context(format!("making {}", so_far.display())),
                    }
                }
                Err(Errno::ENOENT) => return Ok(None),
                Err(errno) => return Err(errno).context(format!("opening {}", so_far.display())),
            };
        }
        Ok(Some(folder))
    }
}
