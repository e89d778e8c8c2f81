//! The local store: disk images and their records in a folder.
//!
//! ```text
//! STORE/lock             held while a name is claimed or an image removed
//! STORE/images/ID.json   an image's record; written whole or not at all
//! STORE/disks/SNAP.raw   a snapshot: the content of an image's disk, never written again
//! STORE/disks/DISK.raw   the disk of a bake that is under way
//! ```

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{FcntlArg, Flock, FlockArg};

use crate::error::{Failure, Kind};
use crate::plan::Arch;

mod cloud;
mod copy;
mod given;
mod ids;
mod orphans;
mod place;
mod record;
mod replace;
mod select;
mod shelf;
#[cfg(test)]
mod tests;

pub use copy::Copied;
pub use record::{Origin, Provenance, Record};

/// Where root's store is when nothing else is said.
pub const DEFAULT_FOLDER: &str = "/var/lib/bakehouse/store";

/// A store of disk images in a folder of this host.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// An image that comes into the store from outside a bake.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Its name; must be free.
    pub name: String,
    /// Its architecture.
    pub arch: Arch,
    /// Its description.
    pub description: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// `bios` or `uefi`, where known.
    pub boot_mode: Option<String>,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl Store {
    /// The store in `folder`. Nothing is made there before something is stored.
    ///
    /// # Errors
    /// That the current folder, which a relative path starts from, cannot be told.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder =
            std::path::absolute(folder).with_context(|| format!("finding the store {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Its folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All records, newest first. A record that cannot be read is left out, with a warning.
    ///
    /// # Errors
    /// That the store's folder is there but cannot be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        let folder = self.images_folder();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match record::read(&path) {
                Ok(record) => records.push(record),
                // Removed between the listing and the reading.
                Err(_) if !path.exists() => {}
                Err(error) => tracing::warn!("leaving out an image: {error:#}"),
            }
        }
        records.sort_by(|a, b| (&b.created, &b.id).cmp(&(&a.created, &a.id)));
        Ok(records)
    }

    /// The image of that name or id.
    ///
    /// # Errors
    /// [`Kind::Base`] when there is none, with the images that there are.
    pub fn image(&self, name_or_id: &str) -> Result<Record> {
        let selector = crate::recipe::BaseSelector::Image(name_or_id.to_owned());
        Ok(select::select(&self.records()?, &selector)?.clone())
    }

    /// The file with the content of an image's disk: raw, to be read only.
    pub fn disk_of(&self, image: &Record) -> PathBuf {
        self.disk_file(&image.snapshot)
    }

    /// Makes an image: `fill` writes the content into an empty file of mode 0600, at the path it is given.
    /// The file is synced afterwards; it is gone when anything fails.
    ///
    /// # Errors
    /// [`Kind::Name`] when the name is taken (asked before `fill` too) or not allowed; those of `fill`; I/O.
    pub fn add(&self, new: NewImage, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Record> {
        allowed_name(&new.name)?;
        self.name_free(&new.name)?;
        let snapshot = ids::new("snap")?;
        let path = self.disk_file(&snapshot);
        // What dies here without a word is found by this name: see `sweep`.
        let unfinished = path.with_extension("raw.unfinished");
        let live = self.new_disk(&unfinished)?;
        mark_live(&live).with_context(|| format!("locking {}", unfinished.display()))?;
        let added = fill(&unfinished).and_then(|()| {
            let size = sync(&unfinished)?;
            std::fs::rename(&unfinished, &path)
                .with_context(|| format!("renaming {} to {}", unfinished.display(), path.display()))?;
            record::sync_folder_of(&path)?;
            let record = Record {
                format: record::FORMAT,
                id: ids::new("img")?,
                name: new.name,
                created: record::now(),
                arch: new.arch,
                description: new.description,
                tags: new.tags,
                base: None,
                snapshot,
                size,
                boot_mode: new.boot_mode,
                root_device: "/dev/vda".to_owned(),
                provenance: new.provenance,
            };
            self.register_record(&record, &[])?;
            Ok(record)
        });
        if added.is_err() {
            for path in [&unfinished, &path] {
                remove_if_there(path)?;
            }
        }
        drop(live);
        added
    }

    /// # Errors
    /// [`Kind::Host`] when the store's filesystem has less than `bytes` for `what`, with the figures.
    pub fn check_room(&self, bytes: u64, what: &Path) -> Result<()> {
        self.make_folders()?;
        let folder = self.disks_folder();
        let folder = File::open(&folder).with_context(|| format!("opening {}", folder.display()))?;
        copy::check_room(&folder, bytes, what)
    }

    /// Removes an image and its snapshot.
    ///
    /// # Errors
    /// [`Kind::Base`] when there is none of that name or id.
    pub fn remove(&self, name_or_id: &str) -> Result<Record> {
        let _claim = self.claim()?;
        let record = self.image(name_or_id)?;
        self.remove_claimed(&record)?;
        Ok(record)
    }

    /// Removes an image and its snapshot; that there is none of that id is no error.
    ///
    /// # Errors
    /// That an image that is there stands on it, or that a file cannot be removed.
    pub fn remove_if_known(&self, id: &str) -> Result<()> {
        let _claim = self.claim()?;
        let records = self.records()?;
        if let Some(child) = records.iter().find(|record| record.base.as_deref() == Some(id)) {
            return Err(Failure::new(Kind::Base, format!("{} was baked on {id}", child.name))
                .hint("an image that others were baked on is kept")
                .into());
        }
        records.iter().find(|record| record.id == id).map_or(Ok(()), |record| self.remove_claimed(record))
    }

    /// Removes a record, and its disk where no other image has that. To be called with the claim.
    fn remove_claimed(&self, record: &Record) -> Result<()> {
        remove_if_there(&self.record_file(&record.id))?;
        record::sync_folder_of(&self.record_file(&record.id))?;
        if self.records()?.iter().all(|other| other.snapshot != record.snapshot) {
            remove_if_there(&self.disk_file(&record.snapshot))?;
        }
        Ok(())
    }

    /// Removes what an import or the making of a base left behind when it was killed; what was removed.
    ///
    /// # Errors
    /// That the folder cannot be read or a file not removed.
    pub fn sweep(&self) -> Result<Vec<PathBuf>> {
        let folder = self.disks_folder();
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
        let mut removed = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            if path.extension().is_none_or(|extension| extension != "unfinished") {
                continue;
            }
            if !orphans::is_in_use(&path) {
                remove_if_there(&path)?;
                removed.push(path);
            }
        }
        Ok(removed)
    }

    /// # Errors
    /// [`Kind::Name`] when an image has that name.
    pub fn name_free(&self, name: &str) -> Result<()> {
        match self.records()?.iter().find(|record| record.name == name) {
            None => Ok(()),
            Some(record) => Err(Failure::new(
                Kind::Name,
                format!("the name {name} is taken by {} of {}", record.id, record.created),
            )
            .hint(format!("choose another name, or remove it with `bakehouse local remove {name}`"))
            .into()),
        }
    }

    /// Writes a record if its name is free, or those have it alone that it takes the place of. Of several at once with
    /// one name, one gets it.
    fn register_record(&self, record: &Record, in_place_of: &[Record]) -> Result<()> {
        let _claim = self.claim()?;
        let records = self.records()?;
        let mut holders = records.iter().filter(|other| other.name == record.name);
        if holders.any(|holder| in_place_of.iter().all(|old| old.id != holder.id)) {
            self.name_free(&record.name)?;
        }
        record::write(&self.record_file(&record.id), record)
    }

    /// The right to change which images there are; another process or thread waits for it.
    fn claim(&self) -> Result<Flock<File>> {
        self.make_folders()?;
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("locking {}", path.display()))
    }

    /// An empty new file for a disk's content, readable by its owner alone: images hold secrets.
    fn new_disk(&self, path: &Path) -> Result<File> {
        self.make_folders()?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("making {}", path.display()))
    }

    fn make_folders(&self) -> Result<()> {
        for folder in [self.images_folder(), self.disks_folder()] {
            if !folder.is_dir() {
                DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(|error| {
                    let message =
                        format!("the local store's folder {} cannot be made: {error}", folder.display());
                    anyhow::Error::from(
                        Failure::new(Kind::Host, message)
                            .hint("run as root, or choose another folder with --store"),
                    )
                })?;
            }
        }
        Ok(())
    }

    fn images_folder(&self) -> PathBuf {
        self.folder.join("images")
    }

    fn disks_folder(&self) -> PathBuf {
        self.folder.join("disks")
    }

    fn record_file(&self, image: &str) -> PathBuf {
        self.images_folder().join(format!("{image}.json"))
    }

    fn disk_file(&self, id: &str) -> PathBuf {
        self.disks_folder().join(format!("{id}.raw"))
    }

    /// The path, if it is that of a record or a disk of this store: nothing else is ever undone.
    fn own_file(&self, path: &Path) -> Result<()> {
        // What is not finished has an ending more.
        let whole = match path.extension().and_then(|ending| ending.to_str()) {
            Some("unfinished" | "new") => path.with_extension(""),
            _ => path.to_owned(),
        };
        let path = whole.as_path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_own = (path == self.disk_file(stem) && (ids::is("disk", stem) || ids::is("snap", stem)))
            || (path == self.record_file(stem) && ids::is("img", stem));
        if !is_own {
            bail!("{} is no disk and no record of the store {}", path.display(), self.folder.display());
        }
        Ok(())
    }
}

/// An image's name by EC2's rules, so that a recipe's name is good on every cloud.
fn allowed_name(name: &str) -> Result<()> {
    let length = name.chars().count();
    let odd = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"()[] ./-'@_".contains(*c));
    let why = match odd {
        Some(c) => format!("it has {c:?}"),
        None if !(3..=128).contains(&length) => format!("it has {length} characters"),
        None => return Ok(()),
    };
    Err(Failure::new(Kind::Name, format!("{name:?} cannot be an image's name: {why}"))
        .hint("a name has 3 to 128 characters of A-Z a-z 0-9 ( ) [ ] space . / - ' @ _")
        .into())
}

/// Locks one byte of a file, far behind its end, for as long as the file is open. Not by flock(2), which is how
/// a loop device's user locks it, and not its first bytes, which QEMU locks.
fn mark_live(file: &File) -> nix::Result<()> {
    let mark = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 1 << 62,
        l_len: 1,
        l_pid: 0,
    };
    nix::fcntl::fcntl(file, FcntlArg::F_OFD_SETLK(&mark)).map(drop)
}

/// Makes a file's content last; its size in bytes.
fn sync(path: &Path) -> Result<u64> {
    File::open(path)
        .and_then(|file| {
            file.sync_all()?;
            file.metadata()
        })
        .map(|metadata| metadata.len())
        .with_context(|| format!("syncing {}", path.display()))
}

/// Removes a file; that it is not there is no error.
fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
