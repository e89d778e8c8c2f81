//! An image's record, and how it is written so that a reader never sees half of one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cloud::ImageSummary;
use crate::plan::Arch;

/// The format of the records written now.
pub const FORMAT: u32 = 1;

/// How an image came into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Baked on another image.
    Bake,
    /// Brought in from a file.
    Import,
    /// Made from packages alone.
    Foundation,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// How it came into the store.
    pub origin: Origin,
    /// The tool that put it there, `bakehouse 0.1.0`.
    pub tool: String,
    /// The file or the mirror that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Provenance {
    /// Of this version of Bakehouse.
    pub fn new(origin: Origin, source: Option<String>) -> Self {
        Self { origin, tool: concat!("bakehouse ", env!("CARGO_PKG_VERSION")).to_owned(), source }
    }
}

/// One image of the store, `images/ID.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format of this record: [`FORMAT`] or less.
    pub format: u32,
    /// `img-…`.
    pub id: String,
    /// Its name, unique in the store.
    pub name: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// The architecture.
    pub arch: Arch,
    /// The description.
    #[serde(default)]
    pub description: String,
    /// All tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The id of the image that it was baked on.
    #[serde(default)]
    pub base: Option<String>,
    /// `snap-…`: the disk's content is `disks/SNAP.raw`.
    pub snapshot: String,
    /// The disk's size in bytes.
    pub size: u64,
    /// `bios` or `uefi`, where known.
    #[serde(default)]
    pub boot_mode: Option<String>,
    /// The root device's name, `/dev/vda`.
    pub root_device: String,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl Record {
    /// As one image in a list.
    pub fn summary(&self) -> ImageSummary {
        ImageSummary {
            id: self.id.clone(),
            name: self.name.clone(),
            state: "available".to_owned(),
            arch: self.arch.as_str().to_owned(),
            created: self.created.clone(),
            size: Some(self.size),
            base: self.base.clone(),
            tags: self.tags.clone(),
        }
    }
}

/// The time now as records have it: RFC 3339, UTC, always with three digits of a second, so that it sorts as text.
pub(super) fn now() -> String {
    as_recorded(jiff::Timestamp::now())
}

fn as_recorded(time: jiff::Timestamp) -> String {
    format!("{time:.3}")
}

/// The name that a record has while it is being written.
pub(super) fn unfinished(path: &Path) -> std::path::PathBuf {
    path.with_extension("json.new")
}

/// Writes a record so that it is either whole on the disk or not there at all. It must not be there yet.
pub(super) fn write(path: &Path, record: &Record) -> Result<()> {
    let new = unfinished(path);
    let mut bytes = serde_json::to_vec_pretty(record).context("encoding an image's record")?;
    bytes.push(b'\n');
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .with_context(|| format!("writing {}", new.display()))?;
    std::fs::rename(&new, path)
        .with_context(|| format!("renaming {} to {}", new.display(), path.display()))?;
    sync_folder_of(path)
}

/// Reads a record.
pub(super) fn read(path: &Path) -> Result<Record> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading the image record {}", path.display()))
}

/// Makes the names in a file's folder last through a power cut.
pub(super) fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("syncing {}", folder.display()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record for tests.
    pub fn sample(id: &str, name: &str, created: &str) -> Record {
        Record {
            format: FORMAT,
            id: id.to_owned(),
            name: name.to_owned(),
            created: created.to_owned(),
            arch: Arch::X86_64,
            description: String::new(),
            tags: BTreeMap::new(),
            base: None,
            snapshot: "snap-0000000000000000a".to_owned(),
            size: 1 << 30,
            boot_mode: Some("bios".to_owned()),
            root_device: "/dev/vda".to_owned(),
            provenance: Provenance::new(Origin::Import, None),
        }
    }

    #[test]
    fn a_record_is_read_back_as_written_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("img-1.json");
        let record = sample("img-1", "web", "2026-01-01T00:00:00Z");
        write(&path, &record).unwrap();
        assert_eq!(read(&path).unwrap(), record);
        assert!(!unfinished(&path).exists());
    }

    #[test]
    fn a_record_of_a_later_tool_is_read_and_one_that_is_torn_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("img-1.json");
        let mut value = serde_json::to_value(sample("img-1", "web", "2026-01-01T00:00:00Z")).unwrap();
        value["unheard_of"] = serde_json::json!(true);
        std::fs::write(&path, value.to_string()).unwrap();
        assert_eq!(read(&path).unwrap().name, "web");
        std::fs::write(&path, "{\"id\": \"img").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("img-1.json"), "{error}");
    }

    #[test]
    fn times_sort_as_text() {
        let at = |milliseconds| as_recorded(jiff::Timestamp::from_millisecond(milliseconds).unwrap());
        assert_eq!(at(1_000), "1970-01-01T00:00:01.000Z");
        assert!(at(1_000) < at(1_001) && at(1_009) < at(1_010) && at(1_100) < at(1_101));
    }
}
