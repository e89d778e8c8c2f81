//! What the sandbox must mount on and the image lacks: made before, taken away after.
//!
//! Made and removed outside the sandbox, through the root as the caller has it mounted, by name beneath it and
//! only if it is still the very file or folder that was made.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{own, resolver, root};

/// The placeholders made for a run.
#[derive(Debug)]
pub(super) struct Placeholders {
    made: Vec<Placeholder>,
}

#[derive(Debug)]
struct Placeholder {
    folder: OwnedFd,
    name: String,
    inode: (u64, u64),
    how: UnlinkatFlags,
}

impl Placeholders {
    /// Makes those that are needed.
    pub(super) fn make(root_path: &Path, resolver_wanted: bool) -> Result<Self> {
        let root = open(root_path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .with_context(|| format!("opening the root {}", root_path.display()))?;
        let mut placeholders = Self { made: Vec::new() };
        for name in root::MOUNT_POINTS {
            let folder = root.try_clone().context("opening the root again")?;
            placeholders.add(folder, name, UnlinkatFlags::RemoveDir)?;
        }
        if resolver_wanted {
            // Without an /etc the set-up inside says so.
            if let Ok(etc) = own::open_folder(root.as_fd(), Path::new("etc")) {
                placeholders.add(etc, "resolv.conf", UnlinkatFlags::NoRemoveDir)?;
            }
        }
        debug_assert!(resolver::PATH.ends_with("resolv.conf"));
        Ok(placeholders)
    }

    fn add(&mut self, folder: OwnedFd, name: &str, how: UnlinkatFlags) -> Result<()> {
        match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno).with_context(|| format!("looking for the root's {name}")),
        }
        let context = || format!("making a place in the root to mount {name} on");
        let made = match how {
            UnlinkatFlags::RemoveDir => {
                mkdirat(&folder, name, Mode::from_bits_truncate(0o755)).with_context(context)?;
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(&folder, name, flags, Mode::empty()).with_context(context)?
            }
            UnlinkatFlags::NoRemoveDir => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                openat(&folder, name, flags, Mode::from_bits_truncate(0o644)).with_context(context)?
            }
        };
        let found = fstat(made).with_context(context)?;
        self.made.push(Placeholder {
            folder,
            name: name.to_owned(),
            inode: (found.st_dev, found.st_ino),
            how,
        });
        Ok(())
    }

    /// Takes them away again. What the program inside put in their place stays.
    pub(super) fn remove(self) -> Result<()> {
        for placeholder in self.made {
            let Placeholder { folder, name, inode, how } = placeholder;
            let Ok(found) = fstatat(&folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let touched = matches!(how, UnlinkatFlags::NoRemoveDir) && found.st_size != 0;
            if (found.st_dev, found.st_ino) != inode || touched {
                continue;
            }
            match unlinkat(&folder, name.as_str(), how) {
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY) => {}
                Err(errno) => {
                    return Err(errno).with_context(|| format!("taking {name} away from the root again"));
                }
            }
        }
        Ok(())
    }
}
