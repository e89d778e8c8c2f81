//! The builder's resolver, seen at the image's /etc/resolv.conf without touching it.
//!
//! Where that is a file, or a link to one, a copy is bound over the file. Where it is a link into /run or /tmp,
//! which are the sandbox's own, the file is made at the link's end. A link that leads nowhere else is covered
//! itself. Only where nothing is there at all an empty file must be made to bind over, which
//! [`super::placeholder`] takes away again.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};

use super::root::Root;
use crate::beneath::resolve;
use crate::error::{Failure, Kind};
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};

/// Where programs look for it.
pub(super) const PATH: &str = "etc/resolv.conf";
/// As many links are followed as the kernel does.
const LINKS: usize = 40;

/// Makes `content` visible there.
pub(super) fn provide(root: &Root, content: &[u8]) -> Result<()> {
    let path = Path::new(PATH);
    match resolve(root.mount.as_fd(), path, OFlag::O_PATH) {
        Ok(place) => {
            let kind = fstat(&place).context("looking at /etc/resolv.conf")?.st_mode & SFlag::S_IFMT.bits();
            if kind != SFlag::S_IFREG.bits() {
                bail!(Failure::new(Kind::Base, "the image's /etc/resolv.conf is not a file"));
            }
            bind_over(root, &place, content)
        }
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => {
            if make_at_end(root, content)? {
                return Ok(());
            }
            let link =
                resolve(root.mount.as_fd(), path, OFlag::O_PATH | OFlag::O_NOFOLLOW).map_err(|errno| {
                    anyhow::Error::from(errno)
                        .context(Failure::new(Kind::Base, "the root has no /etc for the resolver"))
                })?;
            bind_over(root, &link, content)
        }
        Err(errno) => Err(errno).context("opening /etc/resolv.conf"),
    }
}

fn bind_over(root: &Root, place: &std::os::fd::OwnedFd, content: &[u8]) -> Result<()> {
    let name = "resolv.conf";
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    write(openat(&root.scratch, name, flags, Mode::from_bits_truncate(0o644)), content)?;
    let copy = openat(&root.scratch, name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .context("opening the copy of resolv.conf")?;
    let mount = mount::clone_mount(copy.as_fd(), false).context("binding the copy of resolv.conf")?;
    mount::set_attributes(mount.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, false)
        .context("making resolv.conf read-only")?;
    mount::attach(mount.as_fd(), place.as_fd()).context("covering /etc/resolv.conf")
}

/// Follows the links, and where they end in a filesystem of the sandbox's own makes the file there.
fn make_at_end(root: &Root, content: &[u8]) -> Result<bool> {
    let mut path = PathBuf::from(PATH);
    for _ in 0..LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
        let folder = match root.own.folder(root.mount.as_fd(), parent) {
            Ok(Some(folder)) => folder,
            Ok(None) | Err(_) => return Ok(false),
        };
        match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) if found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits() => {
                // Joined as text: `..` is resolved by the kernel, beneath the root, when it is opened. An
                // absolute target takes the whole path's place.
                let target = readlinkat(&folder, name).context("reading the link /etc/resolv.conf")?;
                path = parent.join(target);
            }
            Ok(_) => return Ok(false),
            Err(Errno::ENOENT) if root.own.has(folder.as_fd())? => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                write(openat(&folder, name, flags, Mode::from_bits_truncate(0o644)), content)?;
                return Ok(true);
            }
            Err(_) => return Ok(false),
        }
    }
    Ok(false)
}

fn write(file: nix::Result<std::os::fd::OwnedFd>, content: &[u8]) -> Result<()> {
    File::from(file.context("making the copy of resolv.conf")?)
        .write_all(content)
        .context("writing the copy of resolv.conf")
}
