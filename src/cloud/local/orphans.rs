//! Files of the store that no image needs and that nobody works on.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Store, mark_live, record};
use crate::cloud::Orphan;
use crate::journal::Thing;
use crate::plan::BakeId;

impl Store {
    /// Disks and snapshots that no record speaks of, and what was never finished; but for those that an import
    /// or a bake has open. Which of them a journal owns is not this room's to know.
    pub(super) fn left_behind(&self) -> Result<Vec<Orphan>> {
        let mut orphans = Vec::new();
        for folder in [self.disks_folder(), self.images_folder()] {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.with_context(|| format!("reading {}", folder.display()))?,
            };
            for entry in entries {
                let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
                if self.own_file(&path).is_ok() && !is_record(&path) && !is_in_use(&path) {
                    orphans.extend(orphan(&path));
                }
            }
        }
        // Asked last: what was registered meanwhile is an image's.
        let used: Vec<_> = self.records()?.iter().map(|record| self.disk_of(record)).collect();
        orphans.retain(|orphan| !matches!(&orphan.thing, Thing::StoreFile { path } if used.contains(path)));
        // A record that cannot be read may speak of any snapshot.
        if self.has_unreadable_records()? {
            orphans.retain(|orphan| !orphan.id.starts_with("snap-"));
        }
        orphans.sort_by(|a, b| a.created.cmp(&b.created));
        Ok(orphans)
    }
}

impl Store {
    fn has_unreadable_records(&self) -> Result<bool> {
        let folder = self.images_folder();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            entries => entries.with_context(|| format!("reading {}", folder.display()))?,
        };
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            if is_record(&path) && record::read(&path).is_err() && path.exists() {
                tracing::warn!(
                    "{} cannot be read: snapshots that no image has are left alone until it can, or is gone",
                    path.display()
                );
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "json")
}

/// What was written to a moment ago is not even looked into: the look might come in between a maker and its lock.
const FRESH: Duration = Duration::from_secs(1);

/// Whether an import has it, by the mark that its maker keeps for as long as it lives, or a loop device.
pub(super) fn is_in_use(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return true };
    let age = file.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
    age.is_none_or(|age| age < FRESH) || mark_live(&file).is_err() || is_on_a_loop(path)
}

fn is_on_a_loop(path: &Path) -> bool {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.into_iter().any(|device| {
        let backing = std::fs::read_to_string(device.path().join("loop/backing_file"));
        backing.is_ok_and(|backing| Path::new(backing.trim_end()) == path)
    })
}

/// None where it is gone already.
fn orphan(path: &Path) -> Option<Orphan> {
    let changed = path.metadata().and_then(|meta| meta.modified()).ok()?;
    let created = jiff::Timestamp::try_from(changed).ok()?;
    Some(Orphan {
        thing: Thing::StoreFile { path: path.to_owned() },
        id: path.file_name()?.to_string_lossy().into_owned(),
        bake: BakeId(String::new()),
        builder: None,
        created: created.to_string(),
    })
}
