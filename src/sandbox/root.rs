//! The mounts: the image's root with the sandbox's own /dev, /proc, /sys, /run and /tmp, entered by pivot_root.
//!
//! All of it happens in a mount namespace of its own, from which nothing propagates and to which nothing does.
//! The image's filesystem is mounted `nodev`: a device node that a base brought along opens nothing.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount as mount_old, umount2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{chdir, fchdir, pivot_root};

use super::wire::Spec;
use super::{Bind, dev, own, proc, resolver, secrets};
use crate::beneath::resolve;
use crate::error::{Failure, Kind};
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};

/// Folders of the root on which the sandbox mounts.
pub(super) const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "sys", "run", "tmp"];

/// A root being built.
#[derive(Debug)]
pub(super) struct Root {
    /// The root's mount, attached.
    pub(super) mount: OwnedFd,
    /// The sandbox's own filesystems in it.
    pub(super) own: own::Own,
    /// A tmpfs that goes with the old root; what is bound from it stays.
    pub(super) scratch: OwnedFd,
}

impl Root {
    /// Attaches a mount at a folder of the root, itself not a link.
    pub(super) fn attach_at(&self, path: &str, mount: &OwnedFd) -> Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let place = resolve(self.mount.as_fd(), Path::new(path), flags).map_err(|errno| {
            anyhow::Error::from(errno).context(
                Failure::new(Kind::Base, format!("the root's /{path} is no folder")).hint(
                    "the base must hold a whole system: /dev, /proc, /sys, /run and /tmp are folders in it",
                ),
            )
        })?;
        mount::attach(mount.as_fd(), place.as_fd()).with_context(|| format!("mounting /{path}"))
    }
}

/// Builds the root and makes it this process's. `resolver` is the content of the builder's resolv.conf.
pub(super) fn enter(spec: &Spec, resolver: Option<&[u8]>) -> Result<()> {
    mount_old(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("making the mounts private")?;
    // Sources first: their paths are the builder's.
    let binds = spec.run.binds.iter().map(source).collect::<Result<Vec<_>>>()?;
    let root = build(spec)?;
    for (bind, source) in spec.run.binds.iter().zip(binds) {
        attach_bind(&root, bind, &source)
            .with_context(|| format!("binding {} at {}", bind.source.display(), bind.target.display()))?;
    }
    if let Some(content) = resolver {
        resolver::provide(&root, content).context("providing the resolver")?;
    }
    fchdir(&root.mount).context("entering the root")?;
    // The old root is stacked on the new one, and taken off it.
    pivot_root(".", ".").context("pivoting to the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("detaching the builder's mounts")?;
    chdir("/").context("entering the root")
}

fn build(spec: &Spec) -> Result<Root> {
    let path = &spec.root;
    let place = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("opening the root {}", path.display()))?;
    let mount = mount::clone_mount(place.as_fd(), true).context("binding the root")?;
    let attributes = if spec.run.read_only { NODEV | RDONLY } else { NODEV };
    mount::set_attributes(mount.as_fd(), attributes, true)
        .context("mounting the root without devices (needs Linux 5.12)")?;
    mount::attach(mount.as_fd(), place.as_fd()).context("attaching the root")?;

    // Hides the builder's /sys, which nothing here needs any more.
    let scratch = mount::new_filesystem(c"tmpfs", &[(c"mode", c"0700")], NOSUID | NODEV | NOEXEC)
        .context("making a tmpfs")?;
    let sys = open("/sys", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("opening /sys")?;
    mount::attach(scratch.as_fd(), sys.as_fd()).context("attaching a tmpfs")?;

    let mut root = Root { mount, own: own::Own::default(), scratch };
    dev::mount_dev(&mut root, &spec.run)?;
    proc::mount_proc(&root)?;
    proc::mount_sys(&root)?;
    let run = own_tmpfs(&mut root, "run", c"0755")?;
    mkdirat(&run, "lock", Mode::from_bits_truncate(0o1777)).context("making /run/lock")?;
    let lock = openat(&run, "lock", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("opening /run/lock")?;
    fchmod(&lock, Mode::from_bits_truncate(0o1777)).context("setting the mode of /run/lock")?;
    secrets::provide(&run, &spec.run.secrets)?;
    own_tmpfs(&mut root, "tmp", c"1777")?;
    Ok(root)
}

fn own_tmpfs(root: &mut Root, path: &str, mode: &std::ffi::CStr) -> Result<OwnedFd> {
    let mount = mount::new_filesystem(c"tmpfs", &[(c"mode", mode)], NOSUID | NODEV)
        .with_context(|| format!("making a tmpfs for /{path}"))?;
    // Followed where it is a link: it stays beneath the root.
    let place = own::open_folder(root.mount.as_fd(), Path::new(path)).map_err(|errno| {
        anyhow::Error::from(errno).context(Failure::new(Kind::Base, format!("the root has no /{path}")))
    })?;
    mount::attach(mount.as_fd(), place.as_fd()).with_context(|| format!("mounting /{path}"))?;
    root.own.add(mount.as_fd())?;
    Ok(mount)
}

/// A copy of the mount at a bind's source, attached nowhere.
pub(super) fn source(bind: &Bind) -> Result<OwnedFd> {
    let from = bind.source.display();
    let place = open(&bind.source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("opening {from}, which is to be seen inside"))?;
    let mount = mount::clone_mount(place.as_fd(), true).with_context(|| format!("binding {from}"))?;
    let attributes = if bind.writable { NOSUID | NODEV } else { NOSUID | NODEV | RDONLY };
    mount::set_attributes(mount.as_fd(), attributes, true)
        .with_context(|| format!("restricting the bind of {from}"))?;
    Ok(mount)
}

pub(super) fn attach_bind(root: &Root, bind: &Bind, mount: &OwnedFd) -> Result<()> {
    let is_folder = is_folder(mount.as_fd())?;
    let missing = || {
        Failure::new(Kind::Step, format!("{} does not exist in the root", bind.target.display()))
            .hint("a bind's target must exist in the image, or be below /run, /tmp or /dev")
    };
    let place = if is_folder {
        root.own.folder(root.mount.as_fd(), &bind.target)?.ok_or_else(missing)?
    } else {
        match resolve(root.mount.as_fd(), &bind.target, OFlag::O_PATH) {
            Ok(place) => place,
            Err(Errno::ENOENT) => {
                let (Some(parent), Some(name)) = (bind.target.parent(), bind.target.file_name()) else {
                    return Err(missing().into());
                };
                let parent = root.own.folder(root.mount.as_fd(), parent)?.ok_or_else(missing)?;
                if !root.own.has(parent.as_fd())? {
                    return Err(missing().into());
                }
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                openat(&parent, name, flags, Mode::from_bits_truncate(0o644)).context("making its target")?
            }
            Err(errno) => return Err(errno).context("opening its target"),
        }
    };
    mount::attach(mount.as_fd(), place.as_fd()).context("attaching it")
}

/// Whether an open descriptor is a folder's.
pub(super) fn is_folder(fd: BorrowedFd<'_>) -> Result<bool> {
    let found = fstat(fd).context("looking at a mount")?;
    Ok(found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}
