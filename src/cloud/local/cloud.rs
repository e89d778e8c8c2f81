//! The store as a [`Cloud`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;

use crate::cloud::shelf::Shelf;
use crate::cloud::{Cloud, DiskHandle, ImageSpec, ImageSummary, Orphan, SnapshotSpec};
use crate::error::{Failure, Kind};
use crate::journal::{Entry, Journal, Standing, Thing};
use crate::plan::{BaseFacts, CleanlyClosed, DeviceFacts, DiskPlan, Locator, Place};
use crate::recipe::BaseSelector;
use crate::stop::Stop;

use super::record::{self, Origin, Provenance, Record};
use super::{Store, copy, ids, place, remove_if_there, select, sync};

#[async_trait]
impl Cloud for Store {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn place(&self) -> Result<Place> {
        place::here()
    }

    async fn find_base(&self, selector: &BaseSelector) -> Result<BaseFacts> {
        if let BaseSelector::Scratch(spec) = selector {
            return Ok(select::blank(spec)?);
        }
        let records = self.clone().blocking(|store| store.records()).await?;
        let record = select::select(&records, selector)?;
        let disk = self.disk_of(record);
        if !disk.is_file() {
            let message = format!("the disk of {} is gone: there is no {}", record.name, disk.display());
            return Err(Failure::new(Kind::Base, message)
                .hint(format!(
                    "remove its record with `bakehouse local remove {}` and make it again",
                    record.id
                ))
                .into());
        }
        tracing::debug!("{selector:?} is {} ({}) of {}", record.name, record.id, self.folder.display());
        Ok(BaseFacts { notes: select::notes(selector), ..select::facts(record) })
    }

    async fn find_device(
        &self,
        device: &DeviceFacts,
        arch: Option<&str>,
        root_device: Option<&str>,
    ) -> Result<BaseFacts> {
        self.device_as_base(device, arch, root_device)
    }

    async fn image_named(&self, name: &str) -> Result<Option<String>> {
        let records = self.clone().blocking(|store| store.records()).await?;
        Ok(records.into_iter().find(|record| record.name == name).map(|record| record.id))
    }

    async fn make_disk(
        &self,
        plan: &DiskPlan,
        base: &BaseFacts,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<DiskHandle> {
        if let Some(given) = &base.given {
            return self.given_disk(given);
        }
        let id = ids::new("disk")?;
        let path = self.disk_file(&id);
        let source = self.disk_file(&base.snapshot);
        let entry = journal.intend(Thing::StoreFile { path: path.clone() })?;
        let (target, size, stop) = (path.clone(), plan.size, stop.clone());
        let is_blank = plan.scratch.is_some();
        let copied = self
            .clone()
            .blocking(move |store| {
                let file = store.new_disk(&target)?;
                if is_blank {
                    return copy::blank(&file, size);
                }
                copy::copy(&source, &file, size, &stop)
            })
            .await;
        match copied {
            Ok(copied) => {
                tracing::debug!("{} is a copy of {}: {copied:?}", path.display(), base.snapshot);
                journal.made(entry, &id)?;
                Ok(DiskHandle { id, locator: Locator::File(path) })
            }
            Err(error) => {
                // At once, for a full filesystem is full for everybody; should it fail, the journal has it.
                remove_if_there(&path)?;
                journal.gone(entry)?;
                Err(error)
            }
        }
    }

    async fn capture(
        &self,
        disk: &DiskHandle,
        _closed: CleanlyClosed,
        _spec: &SnapshotSpec,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<String> {
        let from = match file_of(disk)? {
            own if self.own_file(own).is_ok() => own.to_owned(),
            users => self.copied(users, journal, stop).await?,
        };
        let snapshot = ids::new("snap")?;
        let to = self.disk_file(&snapshot);
        let entry = journal.intend(Thing::StoreFile { path: to.clone() })?;
        let source = from.clone();
        self.clone()
            .blocking(move |_| {
                sync(&source)?;
                std::fs::rename(&source, &to)
                    .with_context(|| format!("renaming {} to {}", source.display(), to.display()))?;
                record::sync_folder_of(&to)
            })
            .await
            .context("capturing the disk")?;
        journal.made(entry, &snapshot)?;
        if let Some(disk) = entry_of(journal, &from) {
            journal.gone(disk.number)?;
        }
        Ok(snapshot)
    }

    async fn release_disk(&self, disk: &DiskHandle, journal: &Journal) -> Result<()> {
        let path = file_of(disk)?.to_owned();
        if self.own_file(&path).is_err() {
            // The user's, baked in place: nothing was made of it.
            return Ok(());
        }
        let entry = entry_of(journal, &path);
        self.clone().blocking(move |_| remove_if_there(&path)).await?;
        match entry {
            Some(Entry { number, standing: Standing::Intended | Standing::Made, .. }) => journal.gone(number),
            _ => Ok(()),
        }
    }

    async fn snapshot_complete(
        &self,
        snapshot: &str,
        _stop: &Stop,
        progress: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<()> {
        let path = self.disk_file(snapshot);
        if !path.is_file() {
            let message =
                format!("the snapshot {snapshot} is not in the store: there is no {}", path.display());
            return Err(Failure::new(Kind::Capture, message).into());
        }
        progress("100%");
        Ok(())
    }

    async fn register(
        &self,
        snapshot: &str,
        spec: &ImageSpec,
        base: &BaseFacts,
        journal: &Journal,
        _stop: &Stop,
    ) -> Result<String> {
        super::allowed_name(&spec.name)?;
        if let Some(image) = self.registered_before(snapshot, journal).await? {
            return Ok(image);
        }
        let record = Record {
            format: record::FORMAT,
            id: ids::new("img")?,
            name: spec.name.clone(),
            created: record::now(),
            arch: spec.arch,
            description: spec.description.clone(),
            tags: spec.tags.clone(),
            base: base.image.clone(),
            snapshot: snapshot.to_owned(),
            size: spec.size,
            boot_mode: boot_mode(spec, base),
            root_device: spec.shape.root_device_name.clone(),
            provenance: Provenance::new(Origin::Bake, base.name.clone()),
        };
        self.register_new(record, spec.collision, journal, snapshot).await
    }

    async fn undo(&self, thing: &Thing, _made: Option<&str>) -> Result<()> {
        let path = match thing {
            Thing::StoreFile { path } => path.clone(),
            Thing::Replaced { name, image, .. } => {
                let (name, image) = (name.clone(), image.clone());
                return self.clone().blocking(move |store| store.let_replaced_go(&name, &image)).await;
            }
            _ => anyhow::bail!("{thing} is not of the local store"),
        };
        self.own_file(&path)?;
        self.clone()
            .blocking(move |_| {
                remove_if_there(&path)?;
                remove_if_there(&record::unfinished(&path))
            })
            .await
    }

    async fn standing_image(&self, thing: &Thing) -> Result<Option<String>> {
        let Thing::StoreFile { path } = thing else { return Ok(None) };
        self.own_file(path)?;
        let id = id_of(path);
        if !ids::is("img", id) || !path.exists() {
            return Ok(None);
        }
        let record = record::read(path)?;
        Ok(self.disk_file(&record.snapshot).is_file().then_some(record.id))
    }

    async fn begun_snapshot(&self, thing: &Thing) -> Result<Option<String>> {
        let Thing::StoreFile { path } = thing else { return Ok(None) };
        self.own_file(path)?;
        // A disk gets a snapshot's name when it is whole, and at once.
        let id = id_of(path);
        Ok((ids::is("snap", id) && path.is_file()).then(|| id.to_owned()))
    }

    async fn orphans(&self, _any_builder: bool) -> Result<Vec<Orphan>> {
        self.clone().blocking(Store::left_behind).await
    }

    async fn shelf(&self, _region: Option<&str>) -> Result<Box<dyn Shelf + '_>> {
        Ok(Box::new(self.clone()))
    }

    async fn images(&self) -> Result<Vec<ImageSummary>> {
        let records = self.clone().blocking(|store| store.records()).await?;
        Ok(records.iter().map(Record::summary).collect())
    }
}

impl Store {
    /// What a bake that died had registered already, when it is resumed; a record of it that is not whole goes.
    async fn registered_before(&self, snapshot: &str, journal: &Journal) -> Result<Option<String>> {
        for entry in journal.entries() {
            let Thing::StoreFile { path } = &entry.thing else { continue };
            if !ids::is("img", id_of(path)) || entry.standing == Standing::Gone {
                continue;
            }
            if let Some(image) = self.standing_image(&entry.thing).await? {
                self.keep(journal, entry.number, snapshot)?;
                return Ok(Some(image));
            }
            self.undo(&entry.thing, None).await?;
            journal.gone(entry.number)?;
        }
        Ok(None)
    }

    /// The snapshot and its image are the bake's result from here on.
    pub(super) fn keep(&self, journal: &Journal, image: u32, snapshot: &str) -> Result<()> {
        if let Some(snapshot) = entry_of(journal, &self.disk_file(snapshot)) {
            journal.kept(snapshot.number)?;
        }
        journal.kept(image)
    }

    /// Runs what waits for a disk on a thread that may wait.
    pub(super) async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::new(self);
        tokio::task::spawn_blocking(move || work(&store)).await.context("waiting for the store")?
    }
}

/// `bios` or `uefi`: what the recipe says in EC2's words, else as the base.
fn boot_mode(spec: &ImageSpec, base: &BaseFacts) -> Option<String> {
    let said = spec.shape.boot_mode.as_deref().map(|mode| mode.strip_prefix("legacy-").unwrap_or(mode));
    let said = said.map(|mode| mode.strip_suffix("-preferred").unwrap_or(mode));
    said.or_else(|| base.inherited.get("boot_mode")?.as_str()).map(str::to_owned)
}

/// The id in the name of a disk's or a record's file.
fn id_of(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

fn file_of(disk: &DiskHandle) -> Result<&Path> {
    match &disk.locator {
        Locator::File(path) | Locator::Device(path) => Ok(path),
        Locator::Volume { id, .. } => anyhow::bail!("{id} is a volume, not a disk of the local store"),
    }
}

/// The newest entry about a file of the store.
fn entry_of(journal: &Journal, path: &Path) -> Option<Entry> {
    let wanted = Thing::StoreFile { path: PathBuf::from(path) };
    journal.entries().into_iter().rev().find(|entry| entry.thing == wanted)
}
