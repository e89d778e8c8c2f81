//! A device on this host: found by volume id, its root partition found by content, grown, checked, mounted,
//! closed. Knows nothing of cloud calls or packages. Blocking: call it through `spawn_blocking`.
//!
//! `Disk → MountedRoot → ProvisionedRoot → ClosedDisk`: each step consumes the one before it.
//!
//! Expects to run in a mount namespace of its own, so that every mount dies with the process; and a loop
//! device lets its file go when the process ends. What is left after a kill is nothing that [`sweep`] does not find.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::fcntl::Flock;

use crate::plan::{CleanlyClosed, Locator};

mod attach;
mod block;
mod check;
mod close;
mod fstab;
mod given;
mod grow;
mod held;
mod holders;
mod layout;
mod locate;
pub mod loopdev;
mod lvm;
mod mount;
mod mountinfo;
mod probe;
mod root;
mod superblock;
mod survey;
mod table;
mod tool;
mod wait;

use attach::Attached;
use block::Block;
use loopdev::LoopDevice;

pub use given::look;
pub use held::Held;
use held::lock;
pub use layout::{LaidOut, Layout};
pub use survey::{Area, Filesystem, Survey};
pub use table::Label;
pub use tool::{NEEDED, Needed};

/// Removes what bakes that were killed have left of device-mapper's, which would hold their volumes: for `gc`. How many.
///
/// # Errors
/// The first mapping that could not be removed; all others went nevertheless.
pub fn sweep() -> Result<usize> {
    lvm::sweep()
}

/// An open disk: a device of this host.
#[derive(Debug)]
pub struct Disk {
    device: Device,
    /// Held until the root is mounted: keeps udev from reading the table anew, and dropping partitions, while
    /// we work on it (systemd's "Locking Block Device Access").
    lock: Flock<File>,
}

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
pub struct MountedRoot {
    /// `None` once closed or abandoned.
    device: Option<Device>,
    attached: Attached,
}

/// A mounted root on which every step and check went well.
#[derive(Debug)]
pub struct ProvisionedRoot(MountedRoot);

/// A disk whose filesystems were synced, remounted read-only, unmounted, and whose buffers were flushed.
#[derive(Debug)]
pub struct ClosedDisk {
    proof: CleanlyClosed,
    held: Held,
}

/// Where a disk's blocks come from.
#[derive(Debug)]
enum Device {
    Loop(LoopDevice),
    Volume {
        block: Block,
        /// Partitions that the kernel knows only from us.
        added: Vec<u32>,
    },
}

impl Device {
    fn block(&self) -> &Block {
        match self {
            Self::Loop(device) => device.block(),
            Self::Volume { block, .. } => block,
        }
    }

    fn node(&self) -> &Path {
        &self.block().node
    }

    /// Looks at what is on it.
    fn survey(&mut self) -> Result<Survey> {
        let (survey, new) = survey::survey(self.block())?;
        if let Self::Volume { added, .. } = self {
            added.extend(new);
        }
        Ok(survey)
    }

    /// Lets it go: loop device detached, partitions that we added forgotten.
    fn release(self) -> Result<()> {
        match self {
            Self::Loop(device) => device.detach(),
            Self::Volume { block, added } => {
                close::flush(&block.node)?;
                let disk = block.open()?;
                added.into_iter().try_for_each(|number| block.forget(&disk, number))
            }
        }
    }
}

impl Disk {
    /// Finds the device and waits for its node, at most `wait`.
    ///
    /// # Errors
    /// [`Kind::Disk`] where it does not appear in time or is in use; [`Kind::Host`] where this host gives no
    /// loop devices.
    pub fn open(locator: &Locator, wait: Duration) -> Result<Self> {
        let device = match locator {
            Locator::File(path) => Device::Loop(LoopDevice::attach(path)?),
            Locator::Device(path) => Device::Volume { block: Block::of(path)?, added: Vec::new() },
            Locator::Volume { id, device_name } => Device::Volume {
                block: locate::volume(id, device_name, wait)
                    .with_context(|| format!("finding the device of {id}"))?,
                added: Vec::new(),
            },
        };
        tracing::debug!("{locator:?} is {}", device.node().display());
        // What is attached for the bake is nobody else's; a device of the user's is left as it is.
        if matches!(locator, Locator::Volume { .. }) {
            lvm::deactivate(device.block(), Path::new("/sys/class/block"))?;
        }
        match lock(device.block()) {
            Ok(lock) => Ok(Self { device, lock }),
            Err(error) => {
                report(device.release(), "releasing the device");
                Err(error)
            }
        }
    }

    /// The device's node, `/dev/nvme1n1`.
    pub fn node(&self) -> &Path {
        self.device.node()
    }

    /// Size in bytes.
    ///
    /// # Errors
    /// The device cannot be asked.
    pub fn size(&self) -> Result<u64> {
        self.device.block().size()
    }

    /// What is on it.
    ///
    /// # Errors
    /// [`Kind::Disk`] where the table is damaged; [`Kind::Host`] where a program is missing.
    pub fn survey(&mut self) -> Result<Survey> {
        self.device.survey()
    }

    /// Finds, checks, grows and mounts the root and what the image's fstab mounts from this disk (/boot, /boot/efi).
    ///
    /// # Errors
    /// [`Kind::Disk`] where there is no root, or more than one, or it is damaged or encrypted, or cannot grow;
    /// [`Kind::Host`] where a program or the kernel's filesystem is missing. Everything is let go then.
    pub fn mount(self, options: &MountOptions) -> Result<MountedRoot> {
        let Self { mut device, lock } = self;
        let mounted = attach::attach(&mut device, options)
            .with_context(|| format!("mounting the root of {}", device.node().display()));
        drop(lock);
        match mounted {
            Ok(attached) => Ok(MountedRoot { device: Some(device), attached }),
            Err(error) => {
                report(device.release(), "releasing the device");
                Err(error)
            }
        }
    }

    /// Lets the device go without having mounted it (loop device detached).
    ///
    /// # Errors
    /// It is still in use, or writing failed.
    pub fn release(self) -> Result<()> {
        drop(self.lock);
        self.device.release()
    }
}

/// For what goes wrong after the error that is reported.
fn report(result: Result<()>, doing: &str) {
    if let Err(error) = result {
        tracing::warn!("{doing}: {error:#}");
    }
}

impl MountedRoot {
    /// Where the root is mounted.
    pub fn path(&self) -> &Path {
        &self.attached.target
    }

    /// The partitions that are mounted, the root first.
    pub fn areas(&self) -> &[Area] {
        &self.attached.areas
    }

    /// The nodes of the disk and of its partitions.
    ///
    /// # Errors
    /// That the kernel's list of them cannot be read.
    pub fn nodes(&self) -> Result<Vec<PathBuf>> {
        let Some(device) = &self.device else { return Ok(Vec::new()) };
        let block = device.block();
        let partitions = block.known()?.into_iter().map(|known| block.partition_node(known.number));
        Ok(std::iter::once(block.node.clone()).chain(partitions).collect())
    }

    /// The names that udev would give the partitions and volumes in use, each with its node. GRUB's and others' tools
    /// write a UUID only where they find its name.
    pub fn names(&self) -> Vec<(PathBuf, PathBuf)> {
        let name = |folder: &str, uuid: &Option<String>, node: &Path| {
            // It is the disk's word.
            let plain = |uuid: &&String| !uuid.is_empty() && !uuid.contains('/') && !uuid.starts_with('.');
            let uuid = uuid.as_ref().filter(plain)?;
            Some((Path::new("/dev/disk").join(folder).join(uuid), node.to_owned()))
        };
        let areas = self.areas().iter();
        let all = areas.flat_map(|area| {
            [
                name("by-uuid", &area.content.uuid, &area.node),
                name("by-partuuid", &area.part_uuid, &area.node),
                area.mapper_name().map(|name| (name, area.node.clone())),
            ]
        });
        // Should two have one UUID, a name can mean but one of them.
        let mut names: Vec<(PathBuf, PathBuf)> = Vec::new();
        for (name, node) in all.flatten() {
            if !names.iter().any(|(known, _)| *known == name) {
                names.push((name, node));
            }
        }
        names
    }

    /// Where in the root its partitions and volumes are mounted.
    ///
    /// # Errors
    /// That the kernel's list of mounts cannot be read.
    pub fn mounts(&self) -> Result<Vec<(PathBuf, &Area)>> {
        let mounts = mountinfo::own()?.into_iter().filter_map(|mount| {
            let inside = mount.point.strip_prefix(&self.attached.target).ok()?;
            let area = self.areas().iter().find(|area| area.node == mount.source)?;
            Some((Path::new("/").join(inside), area))
        });
        Ok(mounts.collect())
    }

    /// The kind of the disk's partition table, where it has one.
    pub fn label(&self) -> Option<Label> {
        self.attached.label
    }

    /// Says that every step and check went well.
    pub fn provisioned(self) -> ProvisionedRoot {
        ProvisionedRoot(self)
    }

    /// Unmounts without a claim that the content is worth keeping, and releases the device.
    ///
    /// # Errors
    /// The first of what went wrong; all is tried.
    pub fn abandon(mut self) -> Result<()> {
        self.abandon_inner()
    }

    fn abandon_inner(&mut self) -> Result<()> {
        let Some(device) = self.device.take() else { return Ok(()) };
        let unmounted = mount::unmount_all(&self.attached.target, true);
        let volumes = std::mem::take(&mut self.attached.volumes);
        match (&unmounted, device) {
            (Ok(()), device) => volumes.close().and(device.release()),
            // Somebody holds it still: waiting for him is of no use.
            (Err(_), Device::Loop(device)) => {
                volumes.let_go();
                device.let_go();
                unmounted
            }
            (Err(_), Device::Volume { .. }) => {
                volumes.let_go();
                unmounted
            }
        }
    }

    fn close(mut self) -> Result<ClosedDisk> {
        let Some(node) = self.device.as_ref().map(|device| device.node().to_owned()) else {
            anyhow::bail!("the root was closed before");
        };
        let closed = self.hold().and_then(|held| {
            close::close(&self.attached.target, &self.attached.areas)?;
            std::mem::take(&mut self.attached.volumes).close()?;
            close::flush(&node).map(|()| held)
        });
        let held = match closed {
            Ok(held) => held,
            Err(error) => {
                report(self.abandon_inner(), "letting go of the root that did not close");
                return Err(close::as_capture(error, &node));
            }
        };
        if let Some(device) = self.device.take() {
            device.release().map_err(|error| close::as_capture(error, &node))?;
        }
        Ok(ClosedDisk { proof: CleanlyClosed::witnessed(), held })
    }
}

impl Drop for MountedRoot {
    fn drop(&mut self) {
        if self.device.is_some() {
            tracing::warn!("{} was neither closed nor abandoned; abandoning it now", self.path().display());
            report(self.abandon_inner(), "abandoning the root");
        }
    }
}

impl ProvisionedRoot {
    /// Where the root is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Sync, read-only remount, unmount, buffers flushed, loop device detached. A root that cannot be closed is
    /// a failed bake.
    ///
    /// # Errors
    /// [`Kind::Capture`], naming who holds what would not unmount. Everything is let go then, as by
    /// [`ProvisionedRoot::abandon`].
    pub fn close(self) -> Result<ClosedDisk> {
        self.0.close()
    }

    /// See [`MountedRoot::abandon`].
    ///
    /// # Errors
    /// As there.
    pub fn abandon(self) -> Result<()> {
        self.0.abandon()
    }
}

impl ClosedDisk {
    /// What capturing asks for, and what keeps other bakes off the disk until that has its content.
    pub fn proof(self) -> (CleanlyClosed, Held) {
        (self.proof, self.held)
    }
}
