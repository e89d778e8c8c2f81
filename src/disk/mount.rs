//! Mounting and unmounting, one filesystem at a time. The process is in a mount namespace of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::survey::{Area, Filesystem};
use super::{holders, mountinfo, wait};
use crate::error::{Failure, Kind};

/// Device nodes in an image are never opened from this host; and reading a file does not make a changed block.
const FLAGS: MsFlags = MsFlags::MS_NODEV.union(MsFlags::MS_NOATIME);

/// Mounts a filesystem for working in it. `options` are those of the image's fstab that matter (Btrfs).
pub(super) fn writable(node: &Path, target: &Path, kind: &str, options: &str) -> Result<()> {
    let own = match kind {
        // The kernel would write empty inode tables of a grown filesystem in the background: blocks that every
        // instance writes at its first boot anyway, and that would only make the snapshot larger.
        "ext4" => "noinit_itable",
        // Two bakes of one base, and perhaps the builder itself, have the same UUID.
        "xfs" => "nouuid",
        _ => "",
    };
    let data = [own, options].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",");
    mount(node, target, kind, FLAGS, &data)
}

/// Mounts a filesystem for a look at it: nothing is written, not even its journal.
pub(super) fn look(node: &Path, target: &Path, filesystem: Filesystem, options: &str) -> Result<()> {
    let flags = FLAGS | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID;
    let own = match filesystem {
        Filesystem::Ext => "noload",
        Filesystem::Xfs => "norecovery,nouuid",
        Filesystem::Btrfs => "rescue=nologreplay",
    };
    let with =
        |own: &str| [own, options].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",");
    match mount(node, target, filesystem.name(), flags, &with(own)) {
        // Older than Linux 5.9.
        Err(error) if filesystem == Filesystem::Btrfs && errno_of(&error) == Some(Errno::EINVAL) => {
            mount(node, target, filesystem.name(), flags, &with("nologreplay"))
        }
        result => result,
    }
}

fn mount(node: &Path, target: &Path, kind: &str, flags: MsFlags, data: &str) -> Result<()> {
    let mounting = || format!("mounting {} ({kind}) with options \"{data}\"", node.display());
    tracing::debug!("{}", mounting());
    // Somebody may claim the device for a moment: a check, a partition tool, another who took it for free.
    let mounted = wait::until(wait::CLAIMED, || {
        match nix::mount::mount(Some(node), target, Some(kind), flags, Some(data)) {
            Err(Errno::EBUSY) => Ok(None),
            result => Ok(Some(result)),
        }
    })?;
    mounted
        .unwrap_or(Err(Errno::EBUSY))
        .map_err(|errno| match errno {
            Errno::ENODEV => anyhow::Error::from(errno).context(
                Failure::new(Kind::Host, format!("this host's kernel has no {kind} filesystem"))
                    .hint(format!("try sudo modprobe {kind}, or bake on a host whose kernel has it")),
            ),
            Errno::EPERM | Errno::EACCES => anyhow::Error::from(errno).context(
                Failure::new(Kind::Host, "this process may not mount").hint("run as root: sudo bakehouse …"),
            ),
            // EUCLEAN: "Structure needs cleaning".
            Errno::EUCLEAN => anyhow::Error::from(errno).context(
                Failure::new(Kind::Disk, format!("the {kind} filesystem on {} is damaged", node.display()))
                    .hint("repair the base (xfs_repair, btrfs check), or bake from another one"),
            ),
            Errno::EEXIST if kind == "btrfs" => anyhow::Error::from(errno).context(
                Failure::new(Kind::Host, "this kernel cannot mount two copies of one Btrfs at the same time")
                    .hint("wait for the other bake to end, or use a kernel from 6.7 on"),
            ),
            Errno::EBUSY => {
                let holders = holders::of_device(node);
                let message = format!("{} is in use: {}", node.display(), holders::sentence(&holders));
                anyhow::Error::from(errno)
                    .context(Failure::new(Kind::Disk, message).hint("end what holds it"))
            }
            _ => errno.into(),
        })
        .with_context(mounting)
}

/// The system's answer at the bottom of an error.
pub(super) fn errno_of(error: &anyhow::Error) -> Option<Errno> {
    error.chain().find_map(|cause| {
        cause
            .downcast_ref::<Errno>()
            .copied()
            .or_else(|| cause.downcast_ref::<std::io::Error>()?.raw_os_error().map(Errno::from_raw))
    })
}

/// Makes sure that what is mounted at `target` is the device meant: Btrfs, by its UUID, could be another copy.
pub(super) fn is_from(area: &Area, target: &Path) -> Result<()> {
    let mounts = mountinfo::own()?;
    let top = mounts.iter().rev().find(|mount| mount.point == target);
    match top {
        Some(mount) if mount.source == area.node => Ok(()),
        Some(mount) => {
            let message = format!(
                "the kernel mounted {} where {} was asked for: both have one UUID",
                mount.source.display(),
                area.node.display()
            );
            Err(Failure::new(Kind::Host, message).hint("wait for the other bake to end").into())
        }
        None => anyhow::bail!("{} is not mounted after mounting it", target.display()),
    }
}

/// Unmounts what is at `point`, waiting a little for those who are about to let go; who holds it is named.
pub(super) fn unmount(point: &Path) -> Result<()> {
    let gone = wait::until(wait::BUSY, || match nix::mount::umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(Some(())),
        Err(Errno::EBUSY) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("unmounting {}", point.display())),
    })?;
    if gone.is_none() {
        return Err(busy(point, "unmounted"));
    }
    Ok(())
}

/// Remounts a filesystem read-only: the kernel writes out everything and refuses while a file is open for writing.
pub(super) fn read_only(point: &Path) -> Result<()> {
    let flags = FLAGS | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let gone = wait::until(wait::BUSY, || {
        match nix::mount::mount(None::<&Path>, point, None::<&Path>, flags, None::<&Path>) {
            Ok(()) => Ok(Some(())),
            Err(Errno::EBUSY) => Ok(None),
            Err(errno) => Err(errno).with_context(|| format!("remounting {} read-only", point.display())),
        }
    })?;
    if gone.is_none() {
        return Err(busy(point, "made read-only"));
    }
    Ok(())
}

fn busy(point: &Path, wanted: &str) -> anyhow::Error {
    let holders = holders::of(point);
    let message =
        format!("{} is busy and cannot be {wanted}: {}", point.display(), holders::sentence(&holders));
    anyhow::Error::from(Errno::EBUSY)
        .context(Failure::new(Kind::Disk, message).hint("end what holds it, and bake again"))
}

/// Unmounts everything at and beneath a folder; all is tried, and the first error is given. `lazily` also lets
/// go of what is busy: never on the way to a capture.
pub(super) fn unmount_all(folder: &Path, lazily: bool) -> Result<()> {
    let mut result = Ok(());
    for mount in mountinfo::at_and_beneath(folder)? {
        let mut outcome = unmount(&mount.point);
        if lazily && outcome.is_err() {
            // The error stays the one that is reported; this only keeps the host tidy.
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            if let Err(errno) = nix::mount::umount2(&mount.point, flags) {
                outcome = outcome.context(format!("also letting go of it lazily: {errno}"));
            }
        }
        result = result.and(outcome);
    }
    result
}

/// A look at a filesystem that ends with this value, on every path.
#[derive(Debug)]
pub(super) struct Look(Option<PathBuf>);

impl Look {
    pub(super) fn at(node: &Path, target: &Path, filesystem: Filesystem, options: &str) -> Result<Self> {
        look(node, target, filesystem, options)?;
        Ok(Self(Some(target.to_owned())))
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), |target| unmount(&target))
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(target) = self.0.take()
            && let Err(error) = unmount(&target)
        {
            tracing::warn!("after looking at it: {error:#}");
        }
    }
}
