//! What bakes share: files under their SHA-256, and names that lead to them.
//!
//! A step writes to a folder of its own alone. After the step, when no process of it lives any more, the files
//! it left are renamed into the store under the digest that the builder computed of them: whatever a package's
//! script does, it cannot change what another bake finds under a digest. Everything is taken over by renames,
//! so that any number of bakes may do so at once without waiting for each other.
//!
//! ```text
//! CACHES/NAME/files/SHA256      the store, seen inside read-only as PATH/.shared
//! CACHES/NAME/names/a/b.rpm     a link to ../../files/SHA256: the last file left as a/b.rpm
//! CACHES/NAME/work/XXXX/        a step's own folder; locked for as long as the step runs
//! ```
//!
//! CACHES/NAME itself is locked, shared, while a step uses it: `shrink.rs` removes nothing then.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::provisioner::{CacheFind, CacheUse};
use crate::sandbox::Bind;
use crate::stop::Stop;

/// Where the store is seen, below the cache's path.
const SHARED: &str = ".shared";

/// The folders of a cache: what has them all is one.
const FOLDERS: [&str; 3] = ["files", "names", "work"];

/// A cache while a step uses it. Dropped without [`InUse::keep`], what the step left is thrown away.
pub(super) struct InUse {
    /// `CACHES/NAME`.
    home: PathBuf,
    /// The step's own folder.
    own: PathBuf,
    path: PathBuf,
    _lock: Flock<File>,
    _stays: Flock<File>,
}

impl InUse {
    /// Makes a step's own folder, seeded as `cache` says. Blocking.
    pub(super) fn open(caches: &Path, cache: &CacheUse, stop: &Stop) -> Result<Self> {
        let home = caches.join(&cache.name);
        let what = || format!("opening the cache {}", home.display());
        let work = home.join("work");
        // Above `work` nobody but the builder's user may look in: what steps leave has any mode at all.
        make_folder(&home, 0o700).with_context(what)?;
        for folder in FOLDERS {
            make_folder(&home.join(folder), 0o755).with_context(what)?;
        }
        // What makes the cache smaller has it to itself for as long as that takes.
        let stays = File::open(&home).with_context(what)?;
        let stays = stop.lock(stays, FlockArg::LockSharedNonblock, &mut || {}).with_context(what)?;
        sweep(&work);
        let own = tempfile::Builder::new().prefix("step-").tempdir_in(&work).with_context(what)?.keep();
        let lock = File::open(&own).with_context(what)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .with_context(what)?;
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).with_context(what)?;
        std::fs::create_dir(own.join(SHARED)).with_context(what)?;
        let used = Self { home: home.clone(), own, path: cache.path.clone(), _lock: lock, _stays: stays };
        if cache.find == CacheFind::Name {
            used.seed(&used.home.join("names"), &used.own).with_context(what)?;
        }
        Ok(used)
    }

    /// The step's own folder, and the store in it.
    pub(super) fn binds(&self) -> [Bind; 2] {
        let own = Bind { source: self.own.clone(), target: self.path.clone(), writable: true };
        let shared =
            Bind { source: self.home.join("files"), target: self.path.join(SHARED), writable: false };
        [own, shared]
    }

    /// Links for every name that earlier steps left.
    fn seed(&self, names: &Path, to: &Path) -> Result<()> {
        for entry in std::fs::read_dir(names)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type()?.is_dir() {
                make_folder(&to, 0o755)?;
                self.seed(&from, &to)?;
            } else if let Some(digest) = std::fs::read_link(&from)?.file_name() {
                symlink(self.path.join(SHARED).join(digest), &to)?;
            }
        }
        Ok(())
    }

    /// Takes over what the step left: regular files with something in them.
    pub(super) fn keep(&self) -> Result<()> {
        self.keep_below(Path::new(""))
            .with_context(|| format!("keeping what was left in the cache {}", self.home.display()))
    }

    fn keep_below(&self, inner: &Path) -> Result<()> {
        for entry in std::fs::read_dir(self.own.join(inner))? {
            let entry = entry?;
            let inner = inner.join(entry.file_name());
            if inner == Path::new(SHARED) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.keep_below(&inner)?;
            } else if kind.is_file() {
                self.keep_file(&inner)?;
            }
        }
        Ok(())
    }

    fn keep_file(&self, inner: &Path) -> Result<()> {
        let from = self.own.join(inner);
        let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&from)?;
        let meta = file.metadata()?;
        // One of several names: the others may be anywhere in the folder, and one is enough.
        if meta.len() == 0 || !meta.is_file() {
            return Ok(());
        }
        std::os::unix::fs::fchown(
            &file,
            Some(nix::unistd::geteuid().as_raw()),
            Some(nix::unistd::getegid().as_raw()),
        )?;
        file.set_permissions(std::fs::Permissions::from_mode(0o444))?;
        let digest = digest_of(file)?;
        std::fs::rename(&from, self.home.join("files").join(&digest))?;
        self.keep_name(inner, &digest)
    }

    fn keep_name(&self, inner: &Path, digest: &str) -> Result<()> {
        if inner.components().any(|component| !matches!(component, Component::Normal(_))) {
            bail!("{} is not a plain name", inner.display());
        }
        let names = self.home.join("names");
        let name = names.join(inner);
        if let Some(folder) = name.parent()
            && DirBuilder::new().recursive(true).mode(0o755).create(folder).is_err()
        {
            // A file is known by the name that is a folder's now. Nothing is lost: the file is kept.
            return Ok(());
        }
        let new = self.own.with_extension("link");
        symlink(link_to(digest, inner.components().count()), &new)?;
        if std::fs::rename(&new, &name).is_err() {
            std::fs::remove_file(&new)?;
        }
        Ok(())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.own) {
            tracing::warn!("removing {}: {error}", self.own.display());
        }
    }
}

/// Removes the folders of steps whose process is gone. What cannot be removed now is left for the next time.
fn sweep(work: &Path) {
    let Ok(entries) = std::fs::read_dir(work) else { return };
    let here = std::fs::metadata(work).map(|meta| meta.dev());
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(folder) = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_DIRECTORY)
            .open(&path)
        else {
            continue;
        };
        let Ok(meta) = folder.metadata() else { continue };
        // One just made is locked in a moment.
        let young =
            meta.modified().ok().and_then(|time| time.elapsed().ok()).is_none_or(|age| age.as_secs() < 60);
        if young || here.as_ref().ok() != Some(&meta.dev()) {
            continue;
        }
        if Flock::lock(folder, FlockArg::LockExclusiveNonblock).is_ok()
            && let Err(error) = std::fs::remove_dir_all(&path)
        {
            tracing::debug!("removing {}: {error}", path.display());
        }
    }
}

/// Whether a folder is a cache that steps share: nobody else's has this form.
pub(super) fn is_home(folder: &Path) -> bool {
    FOLDERS.iter().all(|name| folder.join(name).symlink_metadata().is_ok_and(|meta| meta.is_dir()))
}

/// Where the link of a name leads that lies so many folders below the cache.
pub(super) fn link_to(digest: &str, depth: usize) -> PathBuf {
    let up: PathBuf = std::iter::repeat_n("..", depth).collect();
    up.join("files").join(digest)
}

/// Whether a name is a SHA-256 as [`digest_of`] writes it.
pub(super) fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The SHA-256 of a file's content, hexadecimal.
pub(super) fn digest_of(mut file: impl std::io::Read) -> Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(format!("{:x}", digest.finalize()))
}

fn make_folder(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    Ok(DirBuilder::new().recursive(true).mode(mode).create(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(find: CacheFind) -> CacheUse {
        CacheUse { name: "debs".into(), path: "/run/bakehouse/cache/debs".into(), find }
    }

    #[test]
    fn what_is_left_is_found_again_by_digest_and_name() {
        let caches = tempfile::tempdir().unwrap();
        let first = InUse::open(caches.path(), &cache(CacheFind::Name), &Stop::default()).unwrap();
        std::fs::create_dir(first.own.join("repo")).unwrap();
        std::fs::write(first.own.join("repo/a.rpm"), "one").unwrap();
        std::fs::write(first.own.join("empty"), "").unwrap();
        symlink("/etc/shadow", first.own.join("leak")).unwrap();
        first.keep().unwrap();
        let own = first.own.clone();
        drop(first);
        assert!(!own.exists());

        let second = InUse::open(caches.path(), &cache(CacheFind::Name), &Stop::default()).unwrap();
        let digest = digest_of(&b"one"[..]).unwrap();
        let link = std::fs::read_link(second.own.join("repo/a.rpm")).unwrap();
        assert_eq!(link, Path::new("/run/bakehouse/cache/debs/.shared").join(&digest));
        assert!(!second.own.join("leak").exists() && !second.own.join("empty").exists());
        let kept = caches.path().join("debs/files").join(&digest);
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "one");
        assert_eq!(std::fs::metadata(&kept).unwrap().mode() & 0o7777, 0o444);
        assert_eq!(std::fs::read_to_string(caches.path().join("debs/names/repo/a.rpm")).unwrap(), "one");
        // Links are not taken over, and so what a link leads to is not either.
        second.keep().unwrap();

        let third = InUse::open(caches.path(), &cache(CacheFind::Digest), &Stop::default()).unwrap();
        assert_eq!(std::fs::read_dir(&third.own).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let caches = tempfile::tempdir().unwrap();
        let step = InUse::open(caches.path(), &cache(CacheFind::Name), &Stop::default()).unwrap();
        std::fs::write(step.own.join("a"), "bad").unwrap();
        drop(step);
        assert_eq!(std::fs::read_dir(caches.path().join("debs/files")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(caches.path().join("debs/work")).unwrap().count(), 0);
    }

    #[test]
    fn a_cache_that_is_made_smaller_is_waited_for_until_stopping_is_asked_for() {
        let caches = tempfile::tempdir().unwrap();
        let first = InUse::open(caches.path(), &cache(CacheFind::Name), &Stop::default()).unwrap();
        assert!(is_home(&caches.path().join("debs")));
        drop(first);
        let home = File::open(caches.path().join("debs")).unwrap();
        let held = Flock::lock(home, FlockArg::LockExclusiveNonblock).unwrap();
        let stop = Stop::default();
        let other = stop.clone();
        let (told, heard) = std::sync::mpsc::channel();
        let path = caches.path().to_owned();
        std::thread::spawn(move || {
            let opened = InUse::open(&path, &cache(CacheFind::Name), &other);
            told.send(opened.map(|_| ()).map_err(|error| crate::error::exit_status(&error))).unwrap();
        });
        stop.raise(libc::SIGTERM);
        let heard = heard.recv_timeout(std::time::Duration::from_secs(60));
        assert_eq!(heard.expect("it hears no request to stop"), Err(143));
        drop(held);
    }
}
