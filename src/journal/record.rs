//! A journal read back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{Entry, Line, Standing, Thing};
use crate::plan::BakeId;

/// A journal read back: of a bake that lives, or of one that died.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The bake.
    pub bake: BakeId,
    /// `ec2` or `local`.
    pub cloud: String,
    /// What the bake said of itself when it began.
    pub about: serde_json::Value,
    /// Its entries, oldest first.
    pub entries: Vec<Entry>,
    /// Its notes.
    pub notes: BTreeMap<String, String>,
}

impl Record {
    /// That of a bake which died before its first line was whole.
    pub(super) fn unborn(bake: BakeId) -> Self {
        Self {
            bake,
            cloud: String::new(),
            about: serde_json::Value::Null,
            entries: Vec::new(),
            notes: BTreeMap::new(),
        }
    }

    /// As [`super::Journal::is_half_replaced`].
    pub fn is_half_replaced(&self) -> bool {
        half_replaced(&self.entries)
    }

    /// What it still owns, newest first.
    pub fn owned(&self) -> Vec<Entry> {
        owned(&self.entries)
    }

    /// Whether it has an entry of that number.
    pub fn has(&self, number: u32) -> bool {
        self.entries.iter().any(|entry| entry.number == number)
    }
}

/// Whether a bake's image has yet to be given the name of the one that it replaces.
pub(super) fn half_replaced(entries: &[Entry]) -> bool {
    let replaced = |entry: &Entry| matches!(entry.thing, Thing::Replaced { .. });
    owned(entries).iter().any(replaced) && entries.iter().all(|entry| entry.standing != Standing::Kept)
}

pub(super) fn owned(entries: &[Entry]) -> Vec<Entry> {
    let owned = |entry: &&Entry| matches!(entry.standing, Standing::Intended | Standing::Made);
    entries.iter().rev().filter(owned).cloned().collect()
}

/// Reads a journal's text. A torn last line (power loss in the middle of a write) is left out: its effect
/// cannot have begun.
pub fn read(text: &str) -> Result<Record> {
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let first = lines.next().context("reading the journal's first line: there is none")?;
    let Line::Bake { id, cloud, about } =
        serde_json::from_str(first).context("reading the journal's first line")?
    else {
        bail!("the journal does not begin with its bake");
    };
    let mut record = Record { bake: id, cloud, about, entries: Vec::new(), notes: BTreeMap::new() };
    for (index, line) in lines.enumerate() {
        let line = serde_json::from_str(line)
            .with_context(|| format!("reading the journal's line {}", index + 2))?;
        match line {
            Line::Bake { .. } => bail!("the journal's line {} begins a second bake", index + 2),
            Line::Intend { number, thing } => {
                record.entries.push(Entry { number, thing, made: None, standing: Standing::Intended });
            }
            Line::Made { number, id } => {
                let entry = entry_of(&mut record.entries, number, index + 2)?;
                entry.made = Some(id);
                entry.standing = Standing::Made;
            }
            Line::Kept { number } => {
                entry_of(&mut record.entries, number, index + 2)?.standing = Standing::Kept;
            }
            Line::Gone { number } => {
                entry_of(&mut record.entries, number, index + 2)?.standing = Standing::Gone;
            }
            Line::Note { key, value } => {
                record.notes.insert(key, value);
            }
        }
    }
    Ok(record)
}

/// The store's files that a journal's text names, also where that cannot be read as a whole.
pub fn files_named(text: &str) -> impl Iterator<Item = PathBuf> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter_map(|line| line.pointer("/thing/path")?.as_str().map(PathBuf::from))
}

fn entry_of(entries: &mut [Entry], number: u32, line: usize) -> Result<&mut Entry> {
    let found = usize::try_from(number).ok().and_then(|at| entries.get_mut(at));
    found.with_context(|| format!("finding entry {number}, named in line {line}"))
}
