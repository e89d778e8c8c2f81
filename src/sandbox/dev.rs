//! The private /dev: the nodes that every program expects, and no disk.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mkdirat, mknodat, stat};
use nix::unistd::symlinkat;

use super::root::Root;
use super::{Run, own};
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID};

/// Character devices: name, major, minor (Documentation/admin-guide/devices.txt).
const NODES: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: &[(&str, &str)] = &[
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Mounts it, with the nodes of the builder that this run was given besides.
pub(super) fn mount_dev(root: &mut Root, run: &Run) -> Result<()> {
    let options = [(c"mode", c"0755"), (c"size", c"16m"), (c"nr_inodes", c"4096")];
    let dev =
        mount::new_filesystem(c"tmpfs", &options, NOSUID | NOEXEC).context("making a tmpfs for /dev")?;
    for (name, major, minor) in NODES {
        node(&dev, Path::new(name), SFlag::S_IFCHR, 0o666, makedev(*major, *minor))?;
    }
    for (name, target) in LINKS {
        symlinkat(*target, &dev, *name).with_context(|| format!("linking /dev/{name}"))?;
    }
    for name in ["pts", "shm"] {
        mkdirat(&dev, name, Mode::from_bits_truncate(0o755))
            .with_context(|| format!("making /dev/{name}"))?;
    }
    for device in &run.devices {
        builders_node(&dev, device)?;
    }
    for (name, device) in &run.device_names {
        let (folder, name) = place(&dev, name)?;
        symlinkat(device, &folder, name).with_context(|| format!("linking to {}", device.display()))?;
    }
    root.attach_at("dev", &dev)?;
    root.own.add(dev.as_fd())?;

    // An instance of its own: the builder's terminals are not in it. 5 is the group tty in Debian and Fedora alike.
    let options = [(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
    let pts = mount::new_filesystem(c"devpts", &options, NOSUID | NOEXEC).context("making a devpts")?;
    root.attach_at("dev/pts", &pts)?;
    let shm = mount::new_filesystem(c"tmpfs", &[(c"mode", c"1777")], NOSUID | NODEV)
        .context("making a tmpfs for /dev/shm")?;
    root.attach_at("dev/shm", &shm)?;
    root.own.add(shm.as_fd())
}

fn node(dev: &OwnedFd, name: &Path, kind: SFlag, mode: u32, number: u64) -> Result<()> {
    let mode = Mode::from_bits_truncate(mode);
    mknodat(dev, name, kind, mode, number).with_context(|| format!("making the node {}", name.display()))?;
    // Whatever the umask.
    fchmodat(dev, name, mode, FchmodatFlags::FollowSymlink)
        .with_context(|| format!("setting the mode of {}", name.display()))
}

/// A node of the builder at the same path; its folders are made.
fn builders_node(dev: &OwnedFd, device: &Path) -> Result<()> {
    let found = stat(device).with_context(|| format!("looking at the device {}", device.display()))?;
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFBLK && kind != SFlag::S_IFCHR {
        bail!("{} is not a device", device.display());
    }
    let (folder, name) = place(dev, device)?;
    node(&folder, name, kind, 0o600, found.st_rdev)
}

/// The folder of a path below /dev, made, and its name there.
fn place<'p>(dev: &OwnedFd, path: &'p Path) -> Result<(OwnedFd, &'p Path)> {
    let Ok(inside) = path.strip_prefix("/dev") else {
        bail!("the device {} is not below /dev", path.display());
    };
    let (Some(folder), Some(name)) = (inside.parent(), inside.file_name()) else {
        bail!("{} names no device", path.display());
    };
    let mut own = own::Own::default();
    own.add(dev.as_fd())?;
    let folder = own
        .folder(dev.as_fd(), folder)?
        .with_context(|| format!("making the folder of {}", path.display()))?;
    Ok((folder, Path::new(name)))
}
