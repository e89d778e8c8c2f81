//! Closing a root so that its disk can be captured: everything written, nothing mounted, nothing buffered.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::survey::{Area, Filesystem};
use super::{block, holders, mount, mountinfo, superblock};
use crate::error::{Failure, Kind};
use crate::sys;

/// Syncs, remounts read-only and unmounts all that is mounted at and beneath `target`, then flushes `areas`, the
/// partitions that were mounted there. Never lazily: a busy filesystem is an error that names who holds it.
pub(super) fn close(target: &Path, areas: &[Area]) -> Result<()> {
    let mounts = mountinfo::at_and_beneath(target)?;
    let from_disk = |mount: &&mountinfo::Mount| areas.iter().any(|area| area.node == mount.source);
    for mount in mounts.iter().filter(from_disk) {
        sync(&mount.point)?;
    }
    for mount in &mounts {
        if from_disk(&mount) {
            mount::read_only(&mount.point)?;
        } else {
            // Provisioning takes away what it puts in place; the root must be closed all the same.
            tracing::warn!("{} ({}) was left mounted", mount.point.display(), mount.kind);
        }
    }
    mount::unmount_all(target, false)?;
    areas.iter().try_for_each(settle)
}

/// One filesystem's true sync, which tells of write errors that nobody saw.
fn sync(point: &Path) -> Result<()> {
    let syncing = || format!("syncing {}", point.display());
    let folder = File::open(point).with_context(syncing)?;
    nix::unistd::syncfs(&folder).with_context(syncing)
}

/// Waits until the kernel has let go of a filesystem (another mount namespace may be on its way out), flushes
/// its partition, and looks whether its superblock says that it was closed.
fn settle(area: &Area) -> Result<()> {
    if !block::exclusively(&area.node)? {
        let holders = holders::of_device(&area.node);
        let message =
            format!("{} is unmounted, but still in use: {}", area.place(), holders::sentence(&holders));
        return Err(Failure::new(Kind::Capture, message).hint("end what holds it, and bake again").into());
    }
    flush(&area.node)?;
    let Some(filesystem) = area.filesystem() else { return Ok(()) };
    if superblock::read(&area.node, filesystem)?.clean == Some(false) {
        let name = match filesystem {
            Filesystem::Ext | Filesystem::Xfs => "journal is not empty, or errors were found",
            Filesystem::Btrfs => "log tree is not empty",
        };
        let message = format!("{} was unmounted, but its filesystem is not clean: its {name}", area.place());
        return Err(Failure::new(Kind::Capture, message)
            .hint("check the base with fsck, and bake again")
            .into());
    }
    Ok(())
}

/// Writes out and drops what the kernel has buffered of a device.
pub(super) fn flush(node: &Path) -> Result<()> {
    let flushing = || format!("flushing {}", node.display());
    let device = File::open(node).with_context(flushing)?;
    device.sync_all().with_context(flushing)?;
    sys::flush_buffers(device.as_fd()).with_context(flushing)
}

/// Puts a failure to close under the kind whose exit status says so, keeping its words and its hint.
pub(super) fn as_capture(error: anyhow::Error, device: &Path) -> anyhow::Error {
    let inner = crate::error::failure_of(&error).and_then(|failure| failure.hint.clone());
    let mut failure = Failure::new(Kind::Capture, format!("the root on {} was not closed", device.display()));
    failure.hint = inner;
    error.context(failure)
}
