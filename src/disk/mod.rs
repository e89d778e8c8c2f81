//! A device on this host: found by volume id, its root partition found by content, grown, checked, mounted,
//! closed. Knows nothing of cloud calls or packages. Blocking: call it through `spawn_blocking`.
//!
//! `Disk → MountedRoot → ProvisionedRoot → ClosedDisk`: each step consumes the one before it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::plan::Locator;

/// An open disk: a device of this host.
#[derive(Debug)]
pub struct Disk {}

/// How to mount a root.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// The root's partition number where finding it is not wanted.
    pub partition: Option<u32>,
    /// Grow partition and filesystem when the disk is larger.
    pub grow: bool,
    /// An empty folder to mount on.
    pub target: PathBuf,
}

/// A disk whose root is mounted.
#[derive(Debug)]
pub struct MountedRoot {}

/// A mounted root on which every step and check went well.
#[derive(Debug)]
pub struct ProvisionedRoot(MountedRoot);

/// A disk whose filesystems were synced, remounted read-only, unmounted, and whose buffers were flushed.
#[derive(Debug)]
pub struct ClosedDisk {}

impl Disk {
    /// Finds the device and waits for its node, at most `wait`.
    pub fn open(_locator: &Locator, _wait: Duration) -> Result<Self> {
        todo!()
    }

    /// Finds, checks, grows and mounts the root and the image's /boot and /boot/efi.
    pub fn mount(self, _options: &MountOptions) -> Result<MountedRoot> {
        todo!()
    }

    /// Lets the device go without having mounted it (loop device detached).
    pub fn release(self) -> Result<()> {
        todo!()
    }
}

impl MountedRoot {
    /// Where the root is mounted.
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// Says that every step and check went well.
    pub fn provisioned(self) -> ProvisionedRoot {
        ProvisionedRoot(self)
    }

    /// Unmounts without a claim that the content is worth keeping, and releases the device.
    pub fn abandon(self) -> Result<()> {
        todo!()
    }
}

impl ProvisionedRoot {
    /// Where the root is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Sync, read-only remount, unmount, buffers flushed, loop device detached. A root that cannot be closed is a failed bake.
    pub fn close(self) -> Result<ClosedDisk> {
        todo!()
    }

    /// See [`MountedRoot::abandon`].
    pub fn abandon(self) -> Result<()> {
        self.0.abandon()
    }
}
