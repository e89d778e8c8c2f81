//! What a bake owns, on disk, and how each thing is undone. Does not know why it was made.
//!
//! A journal is one file of JSON lines, `STATE/bakes/BAKE-ID.journal`, each line fsynced before the effect
//! that it announces. The process that bakes holds a lock on the file for as long as it lives, so whether a
//! bake is live is never in doubt.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::plan::BakeId;

mod record;
mod thing;

pub use record::{Record, files_named, read};
pub use thing::Thing;

/// Where a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Announced; whether the effect happened is not known.
    Intended,
    /// Made.
    Made,
    /// The bake's result: not to be undone.
    Kept,
    /// Undone, or never came to be.
    Gone,
}

/// One thing in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number within the journal, from 0.
    pub number: u32,
    /// The thing.
    pub thing: Thing,
    /// The id that its making returned.
    pub made: Option<String>,
    /// Where it stands.
    pub standing: Standing,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.made {
            Some(id) => write!(f, "{} {id}", self.thing),
            None => write!(f, "{}", self.thing),
        }
    }
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
enum Line {
    /// The first line.
    Bake {
        id: BakeId,
        cloud: String,
        about: serde_json::Value,
    },
    Intend {
        number: u32,
        thing: Thing,
    },
    Made {
        number: u32,
        id: String,
    },
    Kept {
        number: u32,
    },
    Gone {
        number: u32,
    },
    Note {
        key: String,
        value: String,
    },
}

/// The journal of a live bake. Shared by reference; every method is one fsynced line.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Flock<File>,
    entries: Vec<Entry>,
}

impl Journal {
    /// Begins the journal of a bake in a state folder, and locks it.
    pub fn begin(state: &Path, bake: &BakeId, cloud: &str, about: serde_json::Value) -> Result<Self> {
        let folder = state.join("bakes");
        if !folder.is_dir() {
            std::fs::create_dir_all(&folder)
                .and_then(|()| File::open(state)?.sync_all())
                .with_context(|| format!("making the state folder {}", folder.display()))?;
        }
        let path = Self::path_of(state, bake);
        // Until it has its lock and its first line, nobody who sweeps may look at it.
        let _alone = alone(&folder)?;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("beginning the journal {}", path.display()))?;
        let file = lock(file, &path)?;
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("syncing {}", folder.display()))?;
        let journal = Self { path, state: Mutex::new(State { file, entries: Vec::new() }) };
        journal
            .write(&mut journal.lock(), &Line::Bake { id: bake.clone(), cloud: cloud.to_owned(), about })?;
        Ok(journal)
    }

    /// Takes up the journal of a bake that died: its lock, and all that it says. `None` while the bake (or
    /// somebody else who took it up) lives, and when it has ended meanwhile.
    pub fn take_up(path: &Path) -> Result<Option<(Self, Record)>> {
        let Some(file) = lock_dead(path)? else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the journal {}", path.display()))?;
        let record = read_or_unborn(&text, path)?;
        // A torn last line would swallow the next one.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).with_context(|| format!("mending the journal {}", path.display()))?;
        let state = State { file, entries: record.entries.clone() };
        Ok(Some((Self { path: path.to_owned(), state: Mutex::new(state) }, record)))
    }

    /// Reads the journal of a bake that died, for a look: nothing is changed or kept locked. `None` as
    /// [`Journal::take_up`] has it.
    pub fn look_at(path: &Path) -> Result<Option<Record>> {
        if lock_dead(path)?.is_none() {
            return Ok(None);
        }
        match std::fs::read_to_string(path) {
            Ok(text) => read_or_unborn(&text, path).map(Some),
            // Somebody took it up and ended it in between.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading the journal {}", path.display())),
        }
    }

    /// Whether somebody holds the journal: its bake, or who took it up.
    pub fn is_live(path: &Path) -> Result<bool> {
        Ok(lock_dead(path)?.is_none())
    }

    /// Where a bake's journal is in a state folder.
    pub fn path_of(state: &Path, bake: &BakeId) -> PathBuf {
        state.join("bakes").join(format!("{bake}.journal"))
    }

    /// The bake whose journal a file is, by its name.
    pub fn bake_of(path: &Path) -> BakeId {
        BakeId(path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// The journals in a state folder, oldest first.
    pub fn all(state: &Path) -> Result<Vec<PathBuf>> {
        let folder = state.join("bakes");
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("listing the journals in {}", folder.display()))?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("listing the journals in {}", folder.display()))?.path();
            if path.extension().is_some_and(|ending| ending == "journal") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Announces an effect that is about to happen; its entry's number.
    pub fn intend(&self, thing: Thing) -> Result<u32> {
        let mut state = self.lock();
        let number = u32::try_from(state.entries.len()).context("numbering a journal entry")?;
        self.write(&mut state, &Line::Intend { number, thing: thing.clone() })?;
        state.entries.push(Entry { number, thing, made: None, standing: Standing::Intended });
        Ok(number)
    }

    /// The effect happened and returned this id.
    pub fn made(&self, number: u32, id: &str) -> Result<()> {
        self.change(number, &Line::Made { number, id: id.to_owned() }, |entry| {
            entry.made = Some(id.to_owned());
            entry.standing = Standing::Made;
        })
    }

    /// The thing is the bake's result: unwinding leaves it alone from now on.
    pub fn kept(&self, number: u32) -> Result<()> {
        self.change(number, &Line::Kept { number }, |entry| entry.standing = Standing::Kept)
    }

    /// The thing was undone, or never came to be.
    pub fn gone(&self, number: u32) -> Result<()> {
        self.change(number, &Line::Gone { number }, |entry| entry.standing = Standing::Gone)
    }

    /// Notes a fact that resuming or sweeping needs (`phase`, `name`, …).
    pub fn note(&self, key: &str, value: &str) -> Result<()> {
        let mut state = self.lock();
        self.write(&mut state, &Line::Note { key: key.to_owned(), value: value.to_owned() })
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// What is still owned, newest first: the order of undoing.
    pub fn owned(&self) -> Vec<Entry> {
        record::owned(&self.lock().entries)
    }

    /// The bake's image, once that is its result.
    pub fn kept_image(&self) -> Option<Entry> {
        let is_kept = |entry: &Entry| entry.thing.is_image() && entry.standing == Standing::Kept;
        self.entries().into_iter().find(is_kept)
    }

    /// Whether the bake is between the image that it replaces and its own: then it is gone on with, not undone.
    pub fn is_half_replaced(&self) -> bool {
        record::half_replaced(&self.lock().entries)
    }

    /// The journal's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends a journal that owns nothing any more: the file is removed.
    ///
    /// # Errors
    /// That something is still owned (the file stays), or that the file could not be removed.
    pub fn end(self) -> Result<()> {
        let owned = self.owned();
        if !owned.is_empty() {
            let things: Vec<_> = owned.iter().map(|entry| entry.thing.to_string()).collect();
            bail!("the journal {} still owns: {}", self.path.display(), things.join(", "));
        }
        std::fs::remove_file(&self.path)
            .with_context(|| format!("removing the journal {}", self.path.display()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self, number: u32, line: &Line, change: impl FnOnce(&mut Entry)) -> Result<()> {
        let mut state = self.lock();
        self.write(&mut state, line)?;
        let entry = usize::try_from(number).ok().and_then(|index| state.entries.get_mut(index));
        change(entry.with_context(|| format!("finding entry {number} of {}", self.path.display()))?);
        Ok(())
    }

    fn write(&self, state: &mut State, line: &Line) -> Result<()> {
        let mut bytes = serde_json::to_vec(line).context("encoding a journal line")?;
        bytes.push(b'\n');
        let file = &mut *state.file;
        let before = file.metadata().map(|metadata| metadata.len());
        let written = before.and_then(|before| {
            file.write_all(&bytes).and_then(|()| file.sync_data()).inspect_err(|_| {
                // What a full filesystem took of it would be in the way of the lines to come.
                if let Err(error) = file.set_len(before) {
                    tracing::warn!("taking half a line out of the journal: {error}");
                }
            })
        });
        written.with_context(|| format!("writing to the journal {}", self.path.display()))
    }
}

/// Holds everybody else off from beginning journals in a folder and from taking them up, for a moment.
fn alone(folder: &Path) -> Result<Flock<File>> {
    let file = File::open(folder).with_context(|| format!("opening {}", folder.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("locking {}", folder.display()))
}

/// The journal's file with its lock, where nobody else has that.
fn lock_dead(path: &Path) -> Result<Option<Flock<File>>> {
    let _alone = alone(path.parent().unwrap_or(Path::new("/")))?;
    let file = match OpenOptions::new().read(true).append(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("opening the journal {}", path.display()))?,
    };
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => {
            return Err(errno).with_context(|| format!("locking the journal {}", path.display()));
        }
    };
    // Its holder may have ended it between the opening and the lock: then nothing is left to take up.
    Ok(nix::sys::stat::fstat(&*file).is_ok_and(|found| found.st_nlink > 0).then_some(file))
}

/// What a journal says. One without a whole first line is of a bake that died before it made anything.
fn read_or_unborn(text: &str, path: &Path) -> Result<Record> {
    if text.contains('\n') {
        return read(text).with_context(|| format!("reading the journal {}", path.display()));
    }
    Ok(Record::unborn(Journal::bake_of(path)))
}

fn lock(file: File, path: &Path) -> Result<Flock<File>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(file),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!("the bake of {} is still running", path.display()),
        Err((_, errno)) => Err(errno).with_context(|| format!("locking the journal {}", path.display())),
    }
}

#[cfg(test)]
mod tests;
