//! The private /dev: the nodes that every program expects, and no disk that could be opened.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

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

/// The folder of /dev with the nodes that can be looked at and not opened.
const CLOSED: &str = "closed";

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
    let closed = closed_nodes(run)?;
    for (name, device) in &run.device_names {
        let target = if run.devices.contains(device) { device.clone() } else { in_closed(device)? };
        let (folder, name) = place(&dev, name)?;
        symlinkat(&target, &folder, name).with_context(|| format!("linking to {}", target.display()))?;
    }
    if closed.is_some() {
        mkdirat(&dev, CLOSED, Mode::from_bits_truncate(0o755))
            .with_context(|| format!("making /dev/{CLOSED}"))?;
    }
    root.attach_at("dev", &dev)?;
    root.own.add(dev.as_fd())?;
    if let Some(closed) = closed {
        root.attach_at(&format!("dev/{CLOSED}"), &closed)?;
    }

    // An instance of its own: the builder's terminals are not in it. 5 is the group tty in Debian and Fedora alike.
    let options = [(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
    let pts = mount::new_filesystem(c"devpts", &options, NOSUID | NOEXEC).context("making a devpts")?;
    root.attach_at("dev/pts", &pts)?;
    let shm = mount::new_filesystem(c"tmpfs", &[(c"mode", c"1777")], NOSUID | NODEV)
        .context("making a tmpfs for /dev/shm")?;
    root.attach_at("dev/shm", &shm)?;
    root.own.add(shm.as_fd())
}

/// The nodes that are named and not given: programs find that there is such a device, and its number. The mount is
/// `nodev`, so that opening one is refused (`EACCES`), to root too, and nothing inside may mount anew.
fn closed_nodes(run: &Run) -> Result<Option<OwnedFd>> {
    let named: BTreeSet<&Path> = run.device_names.iter().map(|(_, device)| device.as_path()).collect();
    let closed: Vec<&Path> =
        named.into_iter().filter(|device| !run.devices.iter().any(|given| given == device)).collect();
    if closed.is_empty() {
        return Ok(None);
    }
    let options = [(c"mode", c"0755"), (c"size", c"64k"), (c"nr_inodes", c"256")];
    let mount = mount::new_filesystem(c"tmpfs", &options, NOSUID | NODEV | NOEXEC)
        .context("making a tmpfs for closed devices")?;
    for device in closed {
        let (kind, number) = kind_of(device)?;
        node(&mount, Path::new(name_of(device)?), kind, 0o000, number)?;
    }
    Ok(Some(mount))
}

/// Where the node of a device that is not given is.
fn in_closed(device: &Path) -> Result<PathBuf> {
    Ok(Path::new("/dev").join(CLOSED).join(name_of(device)?))
}

fn name_of(device: &Path) -> Result<&OsStr> {
    device.file_name().with_context(|| format!("{} names no device", device.display()))
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
    let (folder, name) = place(dev, device)?;
    let (kind, number) = kind_of(device)?;
    node(&folder, name, kind, 0o600, number)
}

/// Whether a device of the builder is a block or a character device, and its number.
fn kind_of(device: &Path) -> Result<(SFlag, u64)> {
    let found = stat(device).with_context(|| format!("looking at the device {}", device.display()))?;
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFBLK && kind != SFlag::S_IFCHR {
        bail!("{} is not a device", device.display());
    }
    Ok((kind, found.st_rdev))
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
