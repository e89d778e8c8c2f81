//! Folders with all that is in them, looked at without following any link.

use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ByPath;

/// A tree with more entries than this is left alone: noting it would take longer than it is worth.
pub(super) const MOST: usize = 20_000;

/// How much of a file's end is looked at to tell whether it only grew, bytes.
const END: u64 = 4096;

/// The longest text that is read, bytes.
const LONGEST: u64 = 16 << 20;

/// What stood somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Was {
    /// A folder.
    Folder,
    /// A regular file: its length, its modification time and a digest of its last 4 KiB.
    File { length: u64, modified: (i64, i64), end: Option<String> },
    /// A link, a socket, …
    Other,
}

/// The folder `inner` of `root`, where it is one and no part of its path is a link: a tree that is swept is
/// never another one by way of a link (/var/log could lead to /etc).
pub(super) fn plain_folder(root: &Path, inner: &Path) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for part in inner.components() {
        path.push(part);
        if !std::fs::symlink_metadata(&path).ok()?.is_dir() {
            return None;
        }
    }
    Some(path)
}

/// All entries beneath `inner`, folders before what is in them; none where it is no plain folder. `ends`:
/// regular files' ends are digested too.
///
/// # Errors
/// That it could not be read.
pub(super) fn list(root: &Path, inner: &Path, ends: bool) -> Result<Option<ByPath<Was>>> {
    let Some(folder) = plain_folder(root, inner) else { return Ok(None) };
    let mut all = ByPath::new();
    let mut folders = vec![(folder, inner.to_owned())];
    while let Some((folder, inner)) = folders.pop() {
        let what = || format!("reading {}", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(what)? {
            let entry = entry.with_context(what)?;
            let inner = inner.join(entry.file_name());
            let meta = entry.metadata().with_context(what)?;
            let kind = meta.file_type();
            let was = if kind.is_dir() {
                folders.push((entry.path(), inner.clone()));
                Was::Folder
            } else if kind.is_file() {
                let end = if ends { Some(end_of(&entry.path(), meta.len())?) } else { None };
                Was::File { length: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()), end }
            } else {
                Was::Other
            };
            all.insert(inner, was);
            if all.len() > MOST {
                return Ok(None);
            }
        }
    }
    Ok(Some(all))
}

/// A regular file, opened for reading; a link is refused, and a pipe does not make it wait.
pub(super) fn open(path: &Path) -> std::io::Result<std::fs::File> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The text of a regular file, links followed; none where there is none.
///
/// # Errors
/// That it could not be read, or is larger than 16 MiB.
pub(super) fn text(path: &Path) -> Result<Option<String>> {
    let what = || format!("reading {}", path.display());
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(what),
    };
    let meta = file.metadata().with_context(what)?;
    if !meta.is_file() {
        return Ok(None);
    }
    if meta.len() > LONGEST {
        bail!("{} is {} bytes long: not what it should be", path.display(), meta.len());
    }
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content).with_context(what)?;
    Ok(Some(String::from_utf8_lossy(&content).into_owned()))
}

/// A digest of what ends at `length`.
pub(super) fn end_of(path: &Path, length: u64) -> Result<String> {
    let what = || format!("reading {}", path.display());
    let mut file = open(path).with_context(what)?;
    file.seek(SeekFrom::Start(length.saturating_sub(END))).with_context(what)?;
    let mut content = Vec::new();
    file.take(END.min(length)).read_to_end(&mut content).with_context(what)?;
    Ok(format!("{:x}", Sha256::digest(&content)))
}

/// Removes a file, or a folder with all that is in it; what is not there is no error.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("removing {}", path.display())),
    }
}
