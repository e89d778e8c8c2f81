//! Puts one thing at a time in place, with its owner, mode, times and extended attributes.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use xattr::FileExt as _;

use super::mode::Mode;
use super::owners::Owner;

/// What something's source says of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    /// Permission bits.
    pub(super) mode: u32,
    /// When it was modified: seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// Extended attributes, file capabilities among them.
    pub(super) xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// Of something that no source tells of.
    pub(super) fn made_now(mode: u32) -> Self {
        Self { mode, modified: now(), xattrs: Vec::new() }
    }
}

/// The time now: seconds and nanoseconds since 1970.
pub(super) fn now() -> (i64, i64) {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(elapsed.as_secs()).unwrap_or(0), i64::from(elapsed.subsec_nanos()))
}

/// Puts things in place; [`Placer::finish`] must follow.
pub(super) struct Placer {
    owner: Owner,
    mode: Option<Mode>,
    /// Folders made here: their times are set last, since every file put into one changes them.
    made: Vec<(PathBuf, (i64, i64))>,
    /// Non-folders put in place here.
    placed: HashSet<PathBuf>,
    count: usize,
}

impl Placer {
    pub(super) fn new(owner: Owner, mode: Option<Mode>) -> Self {
        Self { owner, mode, made: Vec::new(), placed: HashSet::new(), count: 0 }
    }

    /// Whether a file or link was put at `path` here.
    pub(super) fn has_placed(&self, path: &Path) -> bool {
        self.placed.contains(path)
    }

    /// Sets the times of folders; how many things were put in place.
    pub(super) fn finish(self) -> Result<usize> {
        for (path, modified) in self.made.iter().rev() {
            set_times(path, *modified).with_context(|| format!("setting the times of {}", path.display()))?;
        }
        Ok(self.count)
    }

    /// The bits to set: set-user-id and set-group-id only where the step's mode asks for them.
    fn bits(&self, source: u32, folder: bool) -> u32 {
        let current = source & if folder { 0o1777 } else { 0o777 };
        self.mode.as_ref().map_or(current, |mode| mode.apply(current, folder))
    }

    /// A folder, merged with what is there (links to folders are followed). One that is there keeps its
    /// owner and mode.
    pub(super) fn folder(&mut self, path: &Path, attributes: &Attributes) -> Result<()> {
        let what = || format!("making the folder {}", path.display());
        self.count += 1;
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => return Ok(()),
            Ok(_) => bail!("{} is no folder in the image", path.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(what),
        }
        make_parents(path)?;
        DirBuilder::new().mode(0o700).create(path).with_context(what)?;
        lchown(path, Some(self.owner.user), Some(self.owner.group)).with_context(what)?;
        let bits = self.bits(attributes.mode, true);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).with_context(what)?;
        let folder = File::open(path).with_context(what)?;
        set_xattrs(&folder, attributes).with_context(what)?;
        self.made.push((path.to_owned(), attributes.modified));
        Ok(())
    }

    /// A regular file: complete under another name first, so that nothing sees half of it.
    pub(super) fn file(
        &mut self,
        path: &Path,
        content: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<()> {
        let new = self.prepare(path)?;
        let result =
            self.write(&new, content, attributes).with_context(|| format!("writing {}", path.display()));
        if result.is_err() {
            // The error is what matters; half a file would only take up room, which there may be none of.
            if let Err(error) = std::fs::remove_file(&new) {
                eprintln!("removing {}: {error}", new.display());
            }
            return result;
        }
        self.settle(&new, path)
    }

    fn write(&self, new: &Path, content: &mut dyn Read, attributes: &Attributes) -> Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(new)?;
        std::io::copy(content, &mut file)?;
        lchown(new, Some(self.owner.user), Some(self.owner.group))?;
        file.set_permissions(std::fs::Permissions::from_mode(self.bits(attributes.mode, false)))?;
        // After the owner: changing that takes file capabilities away.
        set_xattrs(&file, attributes)?;
        drop(file);
        set_times(new, attributes.modified)
    }

    /// A symbolic link, its target as it stands.
    pub(super) fn symlink(&mut self, path: &Path, target: &Path, attributes: &Attributes) -> Result<()> {
        let what = || format!("making the link {}", path.display());
        let new = self.prepare(path)?;
        std::os::unix::fs::symlink(target, &new).with_context(what)?;
        lchown(&new, Some(self.owner.user), Some(self.owner.group)).with_context(what)?;
        set_times(&new, attributes.modified).with_context(what)?;
        self.settle(&new, path)
    }

    /// Another name of a file that was put in place here.
    pub(super) fn hard_link(&mut self, path: &Path, existing: &Path) -> Result<()> {
        let what = || format!("linking {} to {}", path.display(), existing.display());
        if !self.has_placed(existing) {
            bail!(
                "{} is to be another name of {}, which was not put in place before",
                path.display(),
                existing.display()
            );
        }
        let new = self.prepare(path)?;
        std::fs::hard_link(existing, &new).with_context(what)?;
        self.settle(&new, path)
    }

    /// The name under which something for `path` is made.
    fn prepare(&self, path: &Path) -> Result<PathBuf> {
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
            bail!("{} is a folder in the image", path.display());
        }
        make_parents(path)?;
        let name = path.file_name().with_context(|| format!("{} has no name", path.display()))?;
        // A name of at most 255 bytes: the old name may have as many.
        let mut new = OsString::from(".bakehouse-");
        new.push(format!("{:x}", hash(name.as_encoded_bytes())));
        let new = path.with_file_name(new);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", new.display()))
            }
            _ => Ok(new),
        }
    }

    fn settle(&mut self, new: &Path, path: &Path) -> Result<()> {
        std::fs::rename(new, path)
            .with_context(|| format!("renaming {} to {}", new.display(), path.display()))?;
        // rename(2) does nothing where both are names of one file.
        if std::fs::symlink_metadata(new).is_ok() {
            std::fs::remove_file(new).with_context(|| format!("removing {}", new.display()))?;
        }
        self.placed.insert(path.to_owned());
        self.count += 1;
        Ok(())
    }
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Makes what is missing of the folders above `path`: root's, mode 0755.
fn make_parents(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    if parent.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .with_context(|| format!("making the folder {}", parent.display()))
}

fn set_times(path: &Path, (seconds, nanoseconds): (i64, i64)) -> Result<()> {
    let time = TimeSpec::new(seconds, nanoseconds);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

fn set_xattrs(file: &File, attributes: &Attributes) -> Result<()> {
    for (name, value) in &attributes.xattrs {
        file.set_xattr(name, value)
            .with_context(|| format!("setting the extended attribute {}", name.to_string_lossy()))?;
    }
    Ok(())
}

/// Whether an extended attribute goes along: users' own, file capabilities and access lists. Labels of the
/// builder's security modules mean nothing in the image.
pub(super) fn is_kept(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
}

/// `inner` below `folder`, for names that come from an archive.
///
/// # Errors
/// That it is absolute or climbs.
pub(super) fn below(folder: &Path, inner: &Path) -> Result<PathBuf> {
    let mut path = folder.to_owned();
    for component in inner.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => bail!("{} in the archive has a `..`", inner.display()),
            Component::RootDir | Component::Prefix(_) => {
                bail!("{} in the archive is absolute", inner.display())
            }
        }
    }
    Ok(path)
}
