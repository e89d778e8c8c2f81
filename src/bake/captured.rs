//! A snapshot under way: what is noted of it before it begins, so that another process can go on from there.

use anyhow::{Context as _, Result};

use crate::cloud::{Cloud, DiskHandle, ImageSpec};
use crate::contents::{Difference, hygiene};
use crate::journal::{Journal, Record, Standing, Thing};
use crate::plan::{BakeId, BaseFacts, Publishing};
use crate::provisioner::HookPlan;
use crate::report::result::StepTimes;
use crate::stop::Stop;

/// The journal's note of what registering needs.
pub(super) const CAPTURED: &str = "captured";

/// A snapshot under way, and all that registering it needs.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Captured {
    pub(super) bake: BakeId,
    pub(super) snapshot: String,
    pub(super) volume: DiskHandle,
    pub(super) image: ImageSpec,
    pub(super) base: BaseFacts,
    pub(super) region: String,
    pub(super) manifest: Option<String>,
    pub(super) packages: Difference,
    pub(super) provisioning_seconds: f64,
    #[serde(default)]
    pub(super) took: StepTimes,
    #[serde(default)]
    pub(super) hygiene: hygiene::Report,
    #[serde(default)]
    pub(super) publishing: Option<Publishing>,
    /// The hooks after the image.
    #[serde(default)]
    pub(super) hooks: Vec<HookPlan>,
}

/// What the journal of a dead bake says of its capture; nothing where that had not begun.
///
/// # Errors
/// Also that what it has is out of this connection's reach.
pub(super) async fn captured(
    cloud: &dyn Cloud,
    journal: &Journal,
    record: &Record,
) -> Result<Option<Captured>> {
    let Some(note) = record.notes.get(CAPTURED) else { return Ok(None) };
    // Elsewhere nothing of it is there to be seen, which would be taken for gone.
    for entry in journal.entries().iter().filter(|entry| entry.standing != Standing::Gone) {
        cloud.reaches(&entry.thing)?;
    }
    let mut captured: Captured = serde_json::from_str(note)
        .with_context(|| format!("reading what {} says of the capture", journal.path().display()))?;
    let Some(snapshot) = begun_snapshot(cloud, journal).await? else { return Ok(None) };
    captured.snapshot = snapshot;
    // One that found its name taken had another by then.
    for entry in journal.entries() {
        if let (Thing::Image { name, .. }, true) = (&entry.thing, entry.standing != Standing::Gone) {
            super::names::rename(&mut captured.image, name.clone());
        }
    }
    Ok(Some(captured))
}

/// Gives the image of a dead bake the name of the one that it replaces, where it was on its way there; its id.
///
/// # Errors
/// Also that the journal does not tell enough, and [`crate::error::Interrupted`].
pub async fn finish(cloud: &dyn Cloud, journal: &Journal, record: &Record, stop: &Stop) -> Result<String> {
    let captured = captured(cloud, journal, record)
        .await?
        .with_context(|| format!("finding in {} what registering needs", journal.path().display()))?;
    let Captured { snapshot, image, base, .. } = captured;
    cloud.register(&snapshot, &image, &base, journal, stop).await
}

/// The snapshot that a journal owns: noted as made, or announced and found.
async fn begun_snapshot(cloud: &dyn Cloud, journal: &Journal) -> Result<Option<String>> {
    for entry in journal.entries() {
        let is_snapshot = match &entry.thing {
            Thing::Snapshot { .. } => true,
            Thing::StoreFile { .. } => entry.made.as_deref().is_none_or(|id| id.starts_with("snap-")),
            _ => false,
        };
        match (&entry.made, entry.standing) {
            _ if !is_snapshot => {}
            (_, Standing::Gone) => {}
            (Some(id), _) => return Ok(Some(id.clone())),
            (None, _) => {
                if let Some(id) = cloud.begun_snapshot(&entry.thing).await? {
                    journal.made(entry.number, &id)?;
                    return Ok(Some(id));
                }
            }
        }
    }
    Ok(None)
}
