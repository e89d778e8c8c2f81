//! Small files that are put back exactly as the base had them: machine ids and seeds.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::tree;

/// A file larger than this (bytes) is no machine id and no seed.
const LARGEST: u64 = 4096;

/// What the base had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Small {
    /// Nothing.
    Missing,
    /// A link to this.
    Link(PathBuf),
    /// A file with this in it.
    File { content: Vec<u8>, mode: u32, owner: (u32, u32), modified: (i64, i64) },
    /// Something that is none of these, and stays.
    Other,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    Same,
    Removed,
    Restored,
}

impl Small {
    /// What is at `path`.
    pub(super) fn at(path: &Path) -> Result<Self> {
        let what = || format!("reading {}", path.display());
        let meta = match std::fs::symlink_metadata(path) {
            Ok(meta) => meta,
            // A part of its path may be no folder.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self::Missing);
            }
            Err(error) => return Err(error).with_context(what),
        };
        if meta.is_symlink() {
            return Ok(Self::Link(std::fs::read_link(path).with_context(what)?));
        }
        if !meta.is_file() || meta.len() > LARGEST {
            return Ok(Self::Other);
        }
        let mut content = Vec::new();
        tree::open(path).with_context(what)?.take(LARGEST).read_to_end(&mut content).with_context(what)?;
        let (mode, owner) = (meta.mode() & 0o7777, (meta.uid(), meta.gid()));
        Ok(Self::File { content, mode, owner, modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// Makes `path` this again.
    pub(super) fn restore(&self, path: &Path) -> Result<Became> {
        let now = Self::at(path)?;
        if self.same(&now) {
            return Ok(Became::Same);
        }
        match self {
            Self::Other => Ok(Became::Same),
            Self::Missing => {
                tree::remove(path)?;
                Ok(Became::Removed)
            }
            Self::Link(target) => {
                tree::remove(path)?;
                std::os::unix::fs::symlink(target, path)
                    .with_context(|| format!("linking {}", path.display()))?;
                Ok(Became::Restored)
            }
            Self::File { content, mode, owner, modified } => {
                if !matches!(now, Self::File { .. }) {
                    tree::remove(path)?;
                }
                write(path, content, *mode, *owner, *modified)
                    .with_context(|| format!("writing {} as the base had it", path.display()))?;
                Ok(Became::Restored)
            }
        }
    }

    /// Whether it is the same, whenever it was written.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File { content, mode, owner, .. },
                Self::File { content: others, mode: its, owner: who, .. },
            ) => content == others && mode == its && owner == who,
            _ => self == other,
        }
    }
}

fn write(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(content)?;
    std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1))?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    set_modified(&file, modified)
}

/// Sets a file's modification time (seconds and nanoseconds since 1970).
pub(super) fn set_modified(file: &std::fs::File, (seconds, nanoseconds): (i64, i64)) -> std::io::Result<()> {
    use nix::sys::stat::futimens;
    use nix::sys::time::TimeSpec;
    futimens(file, &TimeSpec::UTIME_OMIT, &TimeSpec::new(seconds, nanoseconds)).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_base_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("machine-id");
        let states: [fn(&Path); 5] = [
            |_| {},
            |path| std::fs::write(path, "").unwrap(),
            |path| std::fs::write(path, "uninitialized\n").unwrap(),
            |path| std::fs::write(path, "0123456789abcdef0123456789abcdef\n").unwrap(),
            |path| std::os::unix::fs::symlink("/etc/other", path).unwrap(),
        ];
        let changes: [fn(&Path); 4] = [
            |path| drop(std::fs::remove_file(path)),
            |path| {
                drop(std::fs::remove_file(path));
                std::fs::write(path, "ffffffffffffffffffffffffffffffff\n").unwrap();
            },
            |path| {
                drop(std::fs::remove_file(path));
                std::os::unix::fs::symlink("elsewhere", path).unwrap();
            },
            |path| {
                drop(std::fs::remove_file(path));
                std::fs::create_dir(path).unwrap();
            },
        ];
        for state in states {
            for change in changes {
                tree::remove(&path).unwrap();
                state(&path);
                let before = Small::at(&path).unwrap();
                change(&path);
                before.restore(&path).unwrap();
                assert!(before.same(&Small::at(&path).unwrap()), "{before:?}");
                assert_eq!(before.restore(&path).unwrap(), Became::Same);
            }
        }
    }
}
