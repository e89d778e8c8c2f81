//! Old files of folders that only grow, removed: one that cannot go keeps no other from going.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

/// What went, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How a file is removed.
pub(crate) type Remove<'a> = dyn Fn(&Path) -> io::Result<()> + 'a;

/// Removes what was last changed before a moment.
pub(crate) struct Broom<'a> {
    pub before: SystemTime,
    /// None where it is only to be said what would go.
    pub remove: Option<&'a Remove<'a>>,
    pub gone: Swept,
    /// The first thing that kept a file from being removed.
    pub wrong: Result<()>,
}

impl<'a> Broom<'a> {
    /// For what was changed `older` ago or longer.
    pub fn new(older: Duration, now: SystemTime, remove: Option<&'a Remove<'a>>) -> Self {
        let before = now.checked_sub(older).unwrap_or(UNIX_EPOCH);
        Self { before, remove, gone: Swept::default(), wrong: Ok(()) }
    }

    /// Removes those files of a folder whose names are ours and that are old enough.
    pub fn files(&mut self, folder: &Path, before: SystemTime, ours: impl Fn(&str) -> bool) {
        for (path, meta) in entries(folder).filter(|(path, meta)| meta.is_file() && ours(name_of(path))) {
            let changed = Duration::new(
                u64::try_from(meta.ctime()).unwrap_or_default(),
                u32::try_from(meta.ctime_nsec()).unwrap_or_default(),
            );
            if UNIX_EPOCH + changed <= before && self.removed(&path) {
                self.gone.files += 1;
                self.gone.bytes += meta.blocks() * 512;
            }
        }
    }

    /// Whether it is this broom that removed the file, or would. What is in the way keeps no other from going.
    pub fn removed(&mut self, path: &Path) -> bool {
        match self.remove.map_or(Ok(()), |remove| remove(path)) {
            Ok(()) => true,
            // Another `gc` was first.
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => {
                if self.wrong.is_ok() {
                    self.wrong = Err(error).with_context(|| format!("removing {}", path.display()));
                }
                false
            }
        }
    }
}

/// A path's last name; nothing of the builder's has one that is not UTF-8, but what it downloads.
pub(crate) fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What is in a folder, as far as it may be looked at: none in one that is not there.
pub(crate) fn entries(folder: &Path) -> impl Iterator<Item = (PathBuf, std::fs::Metadata)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
}

pub(crate) fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    entries(folder).filter(|(_, meta)| meta.is_dir()).map(|(path, _)| path)
}
