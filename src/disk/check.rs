//! A filesystem is checked before it is mounted for writing.

use anyhow::Result;

use super::survey::{Area, Filesystem};
use super::tool::{Done, Tool};
use super::wait;
use crate::error::{Failure, Kind};

/// Checks a filesystem that is not mounted, and repairs what is safe to repair: replays the journal of ext4.
/// XFS and Btrfs replay theirs when mounted, and their full checks read all metadata, which on a volume that is
/// still loading from its snapshot takes minutes: they are left alone.
pub(super) fn check(area: &Area) -> Result<()> {
    if area.filesystem() != Some(Filesystem::Ext) {
        return Ok(());
    }
    ext4(area, &[])
}

/// Checks an ext4 filesystem even where it says that it is clean: what resize2fs asks for before it moves things.
pub(super) fn thoroughly(area: &Area) -> Result<()> {
    ext4(area, &["-f"])
}

fn in_use(done: &Done) -> bool {
    let said = done.stdout() + &done.stderr();
    done.code() == Some(8) && ["is in use", "opened exclusively"].iter().any(|sign| said.contains(sign))
}

fn ext4(area: &Area, arguments: &[&str]) -> Result<()> {
    let run = || Tool::new("e2fsck").arg("-p").args(arguments).arg(&area.node).run();
    // Somebody may claim the device for a moment; one who keeps it is told of by e2fsck itself.
    let free = wait::until(wait::BUSY, || run().map(|done| (!in_use(&done)).then_some(done)))?;
    let done = match free {
        Some(done) => done,
        None => run()?,
    };
    match done.code() {
        // e2fsck(8): 0 no errors; 1 errors corrected; 2 corrected, and whoever has it mounted should start
        // again (nobody has).
        Some(0) => Ok(()),
        Some(1 | 2) => {
            tracing::info!("{}: the filesystem was repaired: {}", area.place(), done.stdout().trim());
            Ok(())
        }
        Some(8)
            if done.stderr().contains("unsupported feature")
                || done.stdout().contains("unsupported feature") =>
        {
            tracing::warn!(
                "{}: this host's e2fsck is older than the image's filesystem, which stays unchecked",
                area.place()
            );
            Ok(())
        }
        _ => {
            let message = format!("the filesystem of {} is damaged", area.place());
            let failure = Failure::new(Kind::Disk, message)
                .hint("repair the base with e2fsck -f, or bake from another one");
            Err(done.failure().context(failure))
        }
    }
}
