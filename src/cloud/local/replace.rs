//! An image of the store that takes the place of the one that has its name; of several where a bake died that was
//! about to let one go.
//!
//! The new record is written beside the old one, in one step with its name; then the old one goes, and its disk with
//! it: a disk without a record is nobody's. A bake that dies in between is finished by whoever takes up its journal.

use anyhow::Result;

use super::{Record, Store, record, remove_if_there};
use crate::error::{Kind, kind_of};
use crate::journal::{Journal, Thing};
use crate::recipe::Collision;

/// How often a name that somebody else takes meanwhile is taken back.
const ROUNDS: u32 = 5;

impl Store {
    /// Registers a record of a bake; the image is the bake's result then.
    pub(super) async fn register_new(
        &self,
        record: Record,
        collision: Collision,
        journal: &Journal,
        snapshot: &str,
    ) -> Result<String> {
        let (id, path) = (record.id.clone(), self.record_file(&record.id));
        let mut round = 1;
        loop {
            let old = match collision {
                Collision::Replace { .. } => self.holders_of(&record.name).await?,
                Collision::Fail | Collision::Suffix => Vec::new(),
            };
            // By its path, not by its name: two bakes may want one name, and who loses must not undo the other's.
            let entry = journal.intend(Thing::StoreFile { path: path.clone() })?;
            // Newest first: the last that is noted is the first to be let go, and should this bake die before its record
            // stands, the last that is left of them stays.
            let mut replaced = Vec::new();
            for old in &old {
                replaced.push(journal.intend(Thing::Replaced {
                    region: "local".to_owned(),
                    name: old.name.clone(),
                    image: old.id.clone(),
                    snapshots: vec![old.snapshot.clone()],
                })?);
            }
            let new = record.clone();
            let registered = self.clone().blocking(move |store| store.register_record(&new, &old)).await;
            let Err(error) = registered else {
                journal.made(entry, &id)?;
                self.keep(journal, entry, snapshot)?;
                return Ok(id);
            };
            let undone = self.clone();
            let new = path.clone();
            undone
                .blocking(move |_| {
                    remove_if_there(&new).and_then(|()| remove_if_there(&record::unfinished(&new)))
                })
                .await?;
            journal.gone(entry)?;
            for replaced in replaced {
                journal.gone(replaced)?;
            }
            if !matches!(collision, Collision::Replace { .. })
                || kind_of(&error) != Kind::Name
                || round == ROUNDS
            {
                return Err(error);
            }
            round += 1;
        }
    }

    /// The images of this name, newest first.
    async fn holders_of(&self, name: &str) -> Result<Vec<Record>> {
        let records = self.clone().blocking(|store| store.records()).await?;
        Ok(records.into_iter().filter(|record| record.name == name).collect())
    }

    /// Removes an image that was replaced, where another one has its name by now.
    pub(super) fn let_replaced_go(&self, name: &str, image: &str) -> Result<()> {
        let _claim = self.claim()?;
        let records = self.records()?;
        let has_another = records.iter().any(|record| record.name == name && record.id != image);
        let Some(old) = records.iter().find(|record| record.id == image).filter(|_| has_another) else {
            return Ok(());
        };
        self.remove_claimed(old)
    }
}
