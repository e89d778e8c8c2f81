//! A device that others are kept off: while its root is looked for, and from the close of that until its content is
//! captured.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::block::Block;
use super::{Device, MountedRoot, wait};
use crate::error::{Failure, Kind};

/// Keeps other bakes off a closed disk. What is the user's own, or is attached already, another bake of it could open
/// as soon as its root is unmounted, and what is captured then would be half of each.
#[derive(Debug)]
#[must_use = "dropped, it lets other bakes in"]
pub struct Held(
    /// Of a device. A loop device of our own goes with the close, and its file is asked for when it is copied.
    #[expect(dead_code, reason = "it is there to be dropped")]
    Option<Flock<File>>,
);

impl MountedRoot {
    /// Locks the device while its root is mounted still. Another bake that has it locked sees that mount, and gives up
    /// within [`wait::SETTLE`].
    pub(super) fn hold(&self) -> Result<Held> {
        match &self.device {
            Some(Device::Volume { block, .. }) => {
                lock_within(block, wait::CLAIMED).map(|lock| Held(Some(lock)))
            }
            _ => Ok(Held(None)),
        }
    }
}

/// Locks a device against udev, and makes sure that nobody else works on it.
pub(super) fn lock(block: &Block) -> Result<Flock<File>> {
    let lock = lock_within(block, wait::SETTLE)?;
    block.unused()?;
    Ok(lock)
}

/// Locks a device once nobody else has it locked.
fn lock_within(block: &Block, at_most: Duration) -> Result<Flock<File>> {
    let locked =
        wait::until(at_most, || match Flock::lock(block.open()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno).with_context(|| format!("locking {}", block.node.display())),
        })?;
    locked.ok_or_else(|| {
        Failure::new(Kind::Disk, format!("{} is locked by another process", block.node.display()))
            .hint("see who: fuser -v on the device")
            .into()
    })
}
