//! The search path of provisioners: beside the recipe, in `/etc/bakehouse/provisioners`, then the shipped ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Definition, ScriptFile, define::is_word, shipped};
use crate::recipe::{Complained, source_from_bytes};

/// Why there is no such provisioner.
#[derive(Debug)]
pub enum NotFound {
    /// No folder of that name is on the search path.
    Unknown,
    /// Its definition is wrong.
    Wrong(Complained),
    /// Its folder can't be read, or holds what it may not.
    Unreadable(anyhow::Error),
}

/// Where provisioners are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    folders: Vec<PathBuf>,
}

/// A provisioner's folder larger than this (bytes, all files) is refused: it is kept in memory and in the plan.
const LARGEST: u64 = 16 << 20;

/// More files than this are refused.
const MOST: usize = 1000;

const DEFINITION: &str = "provisioner.toml";

impl Library {
    /// The search path of a recipe in this folder.
    pub fn open(recipe_folder: &Path) -> Self {
        Self::of(vec![recipe_folder.join("provisioners"), PathBuf::from("/etc/bakehouse/provisioners")])
    }

    /// A search path of these folders, and the shipped ones behind them.
    pub fn of(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// The provisioner of that name.
    ///
    /// # Errors
    /// That there is none, that its folder can't be read, or all that is wrong with its definition.
    pub fn find(&self, name: &str) -> Result<Definition, NotFound> {
        if !is_word(name, '-') {
            return Err(NotFound::Unknown);
        }
        for folder in &self.folders {
            let folder = folder.join(name);
            if fs::symlink_metadata(folder.join(DEFINITION)).is_err() {
                continue;
            }
            let origin = folder.display().to_string();
            let files = read_folder(&folder).with_context(|| format!("reading the provisioner {origin}"));
            return definition(name, &origin, files.map_err(NotFound::Unreadable)?);
        }
        let files = shipped::files(name);
        if files.is_empty() { Err(NotFound::Unknown) } else { definition(name, "shipped", files) }
    }

    /// The names of all provisioners that are on the search path, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = shipped::names();
        for folder in &self.folders {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if let Some(name) = entry.file_name().to_str()
                    && is_word(name, '-')
                    && entry.path().join(DEFINITION).exists()
                {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

fn definition(name: &str, origin: &str, files: Vec<ScriptFile>) -> Result<Definition, NotFound> {
    let path = format!("{origin}/{DEFINITION}");
    let shown = if origin == "shipped" { format!("provisioners/{name}/{DEFINITION}") } else { path };
    let text = files.iter().find(|file| file.path.as_os_str() == DEFINITION);
    let source = text
        .context("the folder has no definition")
        .and_then(|file| Ok(source_from_bytes(&shown, &file.content)?))
        .map_err(NotFound::Unreadable)?;
    Definition::parse(name, origin, &source, files)
        .map_err(|complaints| NotFound::Wrong(Complained { source, complaints }))
}

/// Every file below a folder, sorted by path.
fn read_folder(folder: &Path) -> Result<Vec<ScriptFile>> {
    let mut files = Vec::new();
    let mut size = 0;
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let here = folder.join(&below);
        for entry in fs::read_dir(&here).with_context(|| format!("listing {}", here.display()))? {
            let entry = entry.with_context(|| format!("listing {}", here.display()))?;
            let path = below.join(entry.file_name());
            let meta = entry.metadata().with_context(|| format!("looking at {}", entry.path().display()))?;
            if meta.is_dir() {
                waiting.push(path);
                continue;
            }
            if !meta.is_file() {
                bail!(
                    "{} is neither a file nor a folder; a provisioner has no links",
                    entry.path().display()
                );
            }
            size += meta.len();
            if size > LARGEST || files.len() >= MOST {
                bail!("it is too large: at most {MOST} files of {} MiB together", LARGEST >> 20);
            }
            let content =
                fs::read(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
            files.push(ScriptFile { path, mode: meta.permissions().mode() & 0o777, content });
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}
