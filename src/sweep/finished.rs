//! The image that a bake had registered when it died, and how a sweep finishes it.

use anyhow::Result;

use crate::cloud::Cloud;
use crate::error::{Kind, kind_of};
use crate::journal::{Entry, Journal, Record, Standing, Thing};
use crate::stop::Stop;

/// The image that a bake registered before it died.
pub(super) struct Finished {
    /// Its entry's number.
    pub(super) entry: u32,
    pub(super) id: String,
    /// Its snapshot, as the journal has it.
    snapshot: Option<u32>,
}

impl Finished {
    /// Of a bake whose image is given its name by the sweep.
    pub(super) fn foreseen(record: &Record, id: String) -> Self {
        let standing = || record.entries.iter().rev().filter(|entry| entry.standing != Standing::Gone);
        let image = standing().find(|entry| matches!(entry.thing, Thing::Image { .. }));
        Self {
            entry: image.map_or(u32::MAX, |entry| entry.number),
            id,
            snapshot: standing().find(|entry| is_snapshot(entry)).map(|entry| entry.number),
        }
    }

    /// Whether its bake was not done with it yet. On the local store an image is good as soon as it is there.
    pub(super) fn is_unfinished(&self, record: &Record) -> bool {
        let image = record.entries.iter().find(|entry| entry.number == self.entry);
        image.is_some_and(|image| {
            matches!(image.thing, Thing::Image { .. }) && image.standing != Standing::Kept
        })
    }

    pub(super) fn keeps(&self, entry: &Entry) -> bool {
        entry.number == self.entry || Some(entry.number) == self.snapshot
    }
}

/// The image that the bake registered before it died, if it did. One whose registration was announced alone
/// counts when the cloud has it.
pub(super) async fn finished_image(record: &Record, cloud: &dyn Cloud) -> Result<Option<Finished>> {
    for entry in record.entries.iter().filter(|entry| entry.standing != Standing::Gone) {
        if let Some(id) = cloud.standing_image(&entry.thing).await? {
            let snapshot = record.entries.iter().rev().find(|other| is_snapshot(other));
            return Ok(Some(Finished {
                entry: entry.number,
                id,
                snapshot: snapshot.map(|entry| entry.number),
            }));
        }
    }
    Ok(None)
}

fn is_snapshot(entry: &Entry) -> bool {
    match &entry.thing {
        Thing::Snapshot { .. } => entry.standing != Standing::Gone,
        Thing::StoreFile { path } => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            entry.standing != Standing::Gone && name.starts_with("snap-")
        }
        _ => false,
    }
}

/// Finishes a bake whose image stands, or is half way to its name, as the bake itself would have: the image is waited for
/// and compared with its base. None where it came to nothing, and the bake is undone.
pub(super) async fn finish(
    record: &Record,
    journal: &Journal,
    cloud: &dyn Cloud,
    stop: &Stop,
) -> Result<Option<Finished>> {
    let error = match crate::bake::finish(cloud, journal, record, stop).await {
        Ok(image) => return Ok(Some(Finished::foreseen(record, image))),
        Err(error) => error,
    };
    // Somebody else has the name by now: this bake's image came too late, and is undone.
    if kind_of(&error) == Kind::Name {
        return Ok(None);
    }
    // Without the image that was replaced there is no way back; and one that stands may be good another time.
    if record.is_half_replaced() || stop.race(finished_image(record, cloud)).await?.is_some() {
        return Err(error);
    }
    tracing::warn!("{} is undone: {error:#}", record.bake);
    Ok(None)
}
