//! The `files` provisioner's work: puts files, folders and unpacked archives of the builder into an image.
//!
//! It runs in this binary, inside the sandbox, after the image's root was entered: it needs no program of the
//! image, and whatever links the image or an archive holds, nothing outside can be reached.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

mod copy;
mod mode;
mod owners;
mod place;
mod unpack;

use place::{Attributes, Placer};

/// One entry of `copy`.
#[derive(Debug, serde::Deserialize)]
struct Entry {
    /// What is copied: a path inside, where it is staged. A `/` at a folder's end means its content.
    from: String,
    /// Where to. A `/` at its end means that it is a folder.
    to: String,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<String>,
    #[serde(default)]
    unpack: bool,
}

/// One entry of `folder`.
#[derive(Debug, serde::Deserialize)]
struct Folder {
    path: String,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<String>,
}

/// One entry of `link`.
#[derive(Debug, serde::Deserialize)]
struct Link {
    path: String,
    target: String,
}

#[derive(Debug, serde::Deserialize)]
struct Params {
    #[serde(default)]
    folder: Vec<Folder>,
    #[serde(default)]
    copy: Vec<Entry>,
    #[serde(default)]
    link: Vec<Link>,
}

/// The builtin: its argument is the step's parameters.
///
/// # Errors
/// The first entry that cannot be put in place.
pub(super) fn run(argument: serde_json::Value) -> Result<()> {
    let params: Params = serde_json::from_value(argument).context("reading the parameters")?;
    // Modes are given exactly.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    for folder in &params.folder {
        make(folder).with_context(|| format!("making the folder {}", folder.path))?;
        println!("{}: a folder", folder.path);
    }
    for entry in &params.copy {
        let count = put(entry).with_context(|| format!("putting {} in place", entry.to))?;
        let items = if count == 1 { "item" } else { "items" };
        println!("{}: {count} {items}", entry.to);
    }
    for entry in &params.link {
        link(entry).with_context(|| format!("making the link {}", entry.path))?;
        println!("{}: a link to {}", entry.path, entry.target);
    }
    Ok(())
}

/// A folder, where none is there. Links to folders are followed.
fn make(folder: &Folder) -> Result<()> {
    let owner = owners::resolve(folder.owner.as_deref(), folder.group.as_deref())?;
    let mode = folder.mode.as_deref().map(mode::parse).transpose()?;
    let mut placer = Placer::new(owner, mode);
    let path: PathBuf = Path::new(&folder.path).components().collect();
    placer.folder(&path, &Attributes::made_now(0o755))?;
    placer.finish().map(drop)
}

/// A symbolic link, root's.
fn link(entry: &Link) -> Result<()> {
    if entry.target.is_empty() {
        bail!("its target is empty");
    }
    let mut placer = Placer::new(owners::resolve(None, None)?, None);
    let path: PathBuf = Path::new(&entry.path).components().collect();
    placer.symlink(&path, Path::new(&entry.target), &Attributes::made_now(0o777))?;
    placer.finish().map(drop)
}

fn put(entry: &Entry) -> Result<usize> {
    let owner = owners::resolve(entry.owner.as_deref(), entry.group.as_deref())?;
    let mode = entry.mode.as_deref().map(mode::parse).transpose()?;
    if !entry.to.starts_with('/') {
        bail!("it is not an absolute path");
    }
    let mut placer = Placer::new(owner, mode);
    let from = Path::new(&entry.from);
    // The staged path itself may be a link of the builder's, and what it leads to was staged.
    let meta = std::fs::metadata(from).with_context(|| format!("looking at {}", from.display()))?;
    let to = Path::new(&entry.to);
    if entry.unpack {
        if !meta.is_file() {
            bail!("only a file can be unpacked");
        }
        unpack::unpack(from, to, &mut placer)?;
    } else if meta.is_dir() {
        copy::folder(from, &folder_target(entry)?, &mut placer)?;
    } else if meta.is_file() {
        copy::file(from, &file_target(entry)?, &mut placer)?;
    } else {
        bail!("{} is neither a file nor a folder", entry.from);
    }
    placer.finish()
}

/// A folder's content goes to `to` where `from` ends in `/`; else the folder itself goes into `to`.
fn folder_target(entry: &Entry) -> Result<PathBuf> {
    let to = PathBuf::from(&entry.to);
    if entry.from.ends_with('/') { Ok(to) } else { Ok(to.join(name_of(&entry.from)?)) }
}

/// A file goes into `to` where that ends in `/` or is a folder of the image; else it becomes `to`.
fn file_target(entry: &Entry) -> Result<PathBuf> {
    let to = PathBuf::from(&entry.to);
    if entry.to.ends_with('/') || to.is_dir() { Ok(to.join(name_of(&entry.from)?)) } else { Ok(to) }
}

fn name_of(from: &str) -> Result<&std::ffi::OsStr> {
    Path::new(from).file_name().with_context(|| format!("{from} has no name"))
}
