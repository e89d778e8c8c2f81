//! Copies files and folders as they are.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::place::{Attributes, Placer, is_kept};

/// Copies one file.
pub(super) fn file(from: &Path, to: &Path, placer: &mut Placer) -> Result<()> {
    let mut file = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let meta = file.metadata().with_context(|| format!("looking at {}", from.display()))?;
    placer.file(to, &mut file, &attributes(from, &meta)?)
}

/// Copies a folder with all that is in it.
pub(super) fn folder(from: &Path, to: &Path, placer: &mut Placer) -> Result<()> {
    let mut names = HashMap::new();
    let meta = std::fs::metadata(from).with_context(|| format!("looking at {}", from.display()))?;
    placer.folder(to, &attributes(from, &meta)?)?;
    content(from, to, placer, &mut names)
}

/// `names` holds the first copy of every file that has several names.
fn content(
    from: &Path,
    to: &Path,
    placer: &mut Placer,
    names: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<()> {
    let what = || format!("reading the folder {}", from.display());
    let mut entries = std::fs::read_dir(from)
        .with_context(what)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(what)?;
    entries.sort();
    for name in entries {
        let (from, to) = (from.join(&name), to.join(&name));
        let meta =
            std::fs::symlink_metadata(&from).with_context(|| format!("looking at {}", from.display()))?;
        let kind = meta.file_type();
        if kind.is_dir() {
            placer.folder(&to, &attributes(&from, &meta)?)?;
            content(&from, &to, placer, names)?;
        } else if kind.is_symlink() {
            let target =
                std::fs::read_link(&from).with_context(|| format!("reading the link {}", from.display()))?;
            let modified = (meta.mtime(), meta.mtime_nsec());
            placer.symlink(&to, &target, &Attributes { modified, ..Attributes::default() })?;
        } else if kind.is_file() {
            let identity = (meta.dev(), meta.ino());
            if let Some(first) = names.get(&identity).filter(|_| meta.nlink() > 1) {
                placer.hard_link(&to, first)?;
            } else {
                file(&from, &to, placer)?;
                names.insert(identity, to);
            }
        } else if kind.is_socket() || kind.is_fifo() {
            bail!("{} is a socket or a pipe: only files, folders and links can be copied", from.display());
        } else {
            bail!("{} is a device: only files, folders and links can be copied", from.display());
        }
    }
    Ok(())
}

fn attributes(path: &Path, meta: &Metadata) -> Result<Attributes> {
    let mut xattrs = Vec::new();
    let what = || format!("reading the extended attributes of {}", path.display());
    match xattr::list(path) {
        Ok(names) => {
            for name in names.filter(|name| is_kept(name)) {
                if let Some(value) = xattr::get(path, &name).with_context(what)? {
                    xattrs.push((name, value));
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
        Err(error) => return Err(error).with_context(what),
    }
    Ok(Attributes { mode: meta.mode() & 0o7777, modified: (meta.mtime(), meta.mtime_nsec()), xattrs })
}
