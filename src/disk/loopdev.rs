//! Loop devices, by ioctls: a file as a block device. Also what the local store and tests use.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::block::Block;
use super::{table, wait};
use crate::error::{Failure, Kind};
use crate::sys;

/// For how long a free loop device is sought: dozens of bakes that begin at once must all get one.
const FREE_WAIT: Duration = Duration::from_secs(60);

/// Every so many tries a new device is made instead of taking the one that all are told of.
const OWN_AFTER: u64 = 4;

/// A file attached to a loop device. The kernel detaches it when the process ends, however it ends.
#[derive(Debug)]
pub struct LoopDevice {
    /// `None` once detached.
    attached: Option<Attached>,
    block: Block,
    file_path: PathBuf,
}

#[derive(Debug)]
struct Attached {
    device: File,
    /// Locked, so that no second bake attaches the same file.
    backing: Flock<File>,
    /// The kernel's number of this attachment (Linux 5.15): tells it from the next one on the same device.
    sequence: Option<String>,
    /// Where the kernel was asked to make the device: its number, and what takes it back.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    control: File,
    number: u32,
}

impl Own {
    /// Takes the device back. Another process may have been told of it and use it by now: then it is one of many.
    fn remove(&self) {
        if let Err(errno) = sys::loop_remove(self.control.as_fd(), self.number) {
            tracing::debug!("taking /dev/loop{} back: {errno}", self.number);
        }
    }
}

impl LoopDevice {
    /// Attaches a file, read-write, with direct I/O where its filesystem can.
    ///
    /// # Errors
    /// [`Kind::Disk`] where another process has the file attached by this same way; [`Kind::Host`] where
    /// this host gives no loop devices.
    pub fn attach(file: &Path) -> Result<Self> {
        Self::attach_inner(file).with_context(|| format!("attaching {} to a loop device", file.display()))
    }

    fn attach_inner(file: &Path) -> Result<Self> {
        let backing = OpenOptions::new().read(true).write(true).open(file).context("opening it")?;
        if !backing.metadata().context("looking at it")?.is_file() {
            return Err(Failure::new(Kind::Disk, format!("{} is not a file", file.display())).into());
        }
        let backing = Flock::lock(backing, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            let failure =
                Failure::new(Kind::Disk, format!("{} is in use by another process", file.display()));
            anyhow::Error::from(errno).context(failure.hint("wait for the other bake to end"))
        })?;
        Self::on(file, backing, WHOLE)
    }

    /// Attaches a window of a block device: where it begins and how long it is, in bytes.
    ///
    /// # Errors
    /// [`Kind::Host`] where this host gives no loop devices.
    pub(super) fn window(node: &Path, offset: u64, length: u64) -> Result<Self> {
        let attaching =
            || format!("attaching {length} bytes of {} at {offset} to a loop device", node.display());
        let backing = OpenOptions::new().read(true).write(true).open(node).with_context(attaching)?;
        // Several windows are of one device.
        let backing = Flock::lock(backing, FlockArg::LockSharedNonblock)
            .map_err(|(_, errno)| errno)
            .with_context(attaching)?;
        Self::on(node, backing, (offset, length)).with_context(attaching)
    }

    fn on(file: &Path, backing: Flock<File>, window: (u64, u64)) -> Result<Self> {
        let control =
            OpenOptions::new().read(true).write(true).open("/dev/loop-control").map_err(|error| {
                let failure =
                    Failure::new(Kind::Host, format!("/dev/loop-control cannot be opened: {error}"));
                failure.hint("run as root on a host with loop devices (sudo modprobe loop)")
            })?;

        let (device, node, own) = take(&control, &backing, window)?;
        let own = own.map(|number| Own { control, number });
        let block = Block::of(&node)?;
        let sequence = sequence(&block.name);
        tracing::debug!("{} is {}", node.display(), file.display());
        let attached = Some(Attached { device, backing, sequence, own });
        Ok(Self { attached, block, file_path: file.to_owned() })
    }

    /// The device's node, `/dev/loop0`.
    pub fn path(&self) -> &Path {
        &self.block.node
    }

    /// Reads the partition table anew, tells the kernel, and names the partitions' nodes: (number, node), by
    /// number. Empty where there is no table.
    ///
    /// # Errors
    /// The table is damaged, or the kernel refuses it.
    pub fn partitions(&self) -> Result<Vec<(u32, PathBuf)>> {
        let Some(table) = table::read(&self.block)? else { return Ok(Vec::new()) };
        table::tell_kernel(&self.block, &table)?;
        Ok(table
            .partitions
            .iter()
            .map(|partition| (partition.number, self.block.partition_node(partition.number)))
            .collect())
    }

    /// Writes everything out, detaches the file and syncs it.
    ///
    /// # Errors
    /// The device is still in use, or writing failed.
    pub fn detach(mut self) -> Result<()> {
        self.detach_inner().with_context(|| {
            format!("detaching {} from {}", self.file_path.display(), self.block.node.display())
        })
    }

    /// Lets go without waiting: the kernel detaches the file once its last user has gone.
    pub(super) fn let_go(mut self) {
        drop(self.attached.take());
    }

    pub(super) fn block(&self) -> &Block {
        &self.block
    }

    fn detach_inner(&mut self) -> Result<()> {
        let Some(Attached { device, backing, sequence: before, own }) = self.attached.take() else {
            return Ok(());
        };
        let flushed = flush(&device);
        let cleared = clear(&self.block, &device);
        drop(device);
        let gone = wait::until(wait::SETTLE, || {
            let bound = Path::new("/sys/block").join(&self.block.name).join("loop").exists();
            // Another process may have the number already.
            Ok((!bound || sequence(&self.block.name) != before).then_some(()))
        });
        if let (Some(own), Ok(Some(()))) = (own, &gone) {
            own.remove();
        }
        let synced = backing.sync_all().context("syncing the file");
        flushed.and(cleared)?;
        if gone?.is_none() {
            return Err(Failure::new(Kind::Disk, format!("{} is still in use", self.block.node.display()))
                .hint(format!("see who: grep {} /proc/*/mounts", self.block.node.display()))
                .into());
        }
        synced
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if self.attached.is_some() {
            tracing::warn!("{} was not detached in order; detaching it now", self.block.node.display());
            if let Err(error) = self.detach_inner() {
                tracing::warn!("detaching {}: {error:#}", self.block.node.display());
            }
        }
    }
}

/// Takes a loop device for a file. The number that the kernel calls free is told to everybody who asks, and may
/// be taken before it is configured, or still be on its way out: then it is asked for again, after a wait that
/// differs from one process to the next. Who loses often has the kernel make a device of its own, whose number is
/// told too.
fn take(control: &File, backing: &File, window: (u64, u64)) -> Result<(File, PathBuf, Option<u32>)> {
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        tries += 1;
        // A kernel that makes none on request still has its free ones.
        let own = if tries % OWN_AFTER == 0 { sys::loop_add(control.as_fd()).ok() } else { None };
        let number = match own {
            Some(number) => number,
            None => sys::loop_free_number(control.as_fd()).context("asking for a free loop device")?,
        };
        let node = PathBuf::from(format!("/dev/loop{number}"));
        match OpenOptions::new().read(true).write(true).open(&node) {
            Ok(device) => match configure(&device, backing, window) {
                Ok(()) => return Ok((device, node, own)),
                Err(errno) if taken(Some(errno as i32)) => {}
                Err(errno) => return Err(errno).with_context(|| format!("configuring {}", node.display())),
            },
            Err(error) if taken(error.raw_os_error()) => {}
            Err(error) => return Err(error).with_context(|| format!("opening {}", node.display())),
        }
        if begun.elapsed() > FREE_WAIT {
            let message =
                format!("no loop device could be taken in {tries} tries ({} the last)", node.display());
            return Err(Failure::new(Kind::Host, message)
                .hint("see what holds them: losetup -l; and that /dev is a devtmpfs, where new nodes appear")
                .into());
        }
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..=(tries * 2).min(50))));
    }
}

/// No window: all of it.
const WHOLE: (u64, u64) = (0, 0);

fn configure(device: &File, backing: &File, window: (u64, u64)) -> nix::Result<()> {
    // With PARTSCAN the kernel drops the partitions when the file goes, also those that were added by hand.
    let flags = sys::LO_FLAGS_AUTOCLEAR | if window == WHOLE { sys::LO_FLAGS_PARTSCAN } else { 0 };
    let configure = |flags| sys::loop_configure(device.as_fd(), backing.as_fd(), flags, window);
    match configure(flags | sys::LO_FLAGS_DIRECT_IO) {
        Err(Errno::EINVAL) => configure(flags),
        result => result,
    }
}

fn taken(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::EBUSY | libc::ENXIO | libc::ENOENT))
}

fn flush(device: &File) -> Result<()> {
    device.sync_all().context("writing out the device")?;
    sys::flush_buffers(device.as_fd()).context("flushing the device's buffers")
}

fn clear(block: &Block, device: &File) -> Result<()> {
    for partition in block.known()? {
        block.forget(device, partition.number)?;
    }
    match sys::loop_clear(device.as_fd()) {
        Ok(()) | Err(Errno::ENXIO) => Ok(()),
        Err(errno) => Err(errno).context("letting the file go"),
    }
}

fn sequence(name: &str) -> Option<String> {
    std::fs::read_to_string(Path::new("/sys/block").join(name).join("diskseq")).ok()
}
