//! What the builder keeps for bakes to come, made smaller: files that were kept, or used, too long ago.
//!
//! What a step reads of a cache it reads through a read-only mount, and so leaves no trace there: a cached file's age is
//! counted from when it was kept. What is wanted again is fetched again, and kept anew.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

/// A bake looks whether its downloads are there, and stages them later: what was looked at so lately stays.
const LOOKED_AT: Duration = Duration::from_secs(6 * 3600);

/// What went, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shrunk {
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes what was kept for longer than `older` from a folder of caches; without `act` it only says what that is.
/// Caches that a bake is using now are left for the next time.
///
/// # Errors
/// What keeps a file from being removed.
pub fn shrink(caches: &Path, older: Duration, now: SystemTime, act: bool) -> Result<Shrunk> {
    let mut broom =
        Broom { before: now.checked_sub(older).unwrap_or(UNIX_EPOCH), act, gone: Shrunk::default() };
    for home in folders(caches) {
        match home.file_name().and_then(|name| name.to_str()) {
            Some("downloads") => broom.downloads(&home, now)?,
            Some("foundations") => broom.foundations(&home)?,
            _ => broom.shared(&home)?,
        }
    }
    Ok(broom.gone)
}

struct Broom {
    before: SystemTime,
    act: bool,
    gone: Shrunk,
}

impl Broom {
    /// `downloads/DIGEST/NAME`: each was looked at when a bake began that names it. What lies beside these folders is of
    /// bakes that were killed while they fetched it.
    fn downloads(&mut self, home: &Path, now: SystemTime) -> Result<()> {
        let before = self.before.min(now.checked_sub(LOOKED_AT).unwrap_or(UNIX_EPOCH));
        self.files(home, before)?;
        for folder in folders(home) {
            self.files(&folder, before)?;
            if self.act {
                // Where anything is left in it, it stays.
                std::fs::remove_dir(&folder).ok();
            }
        }
        Ok(())
    }

    /// `foundations/SUITE/*.deb`, while nobody bootstraps that suite.
    fn foundations(&mut self, home: &Path) -> Result<()> {
        for folder in folders(home) {
            let lock = File::open(folder.with_extension("lock"))
                .ok()
                .and_then(|lock| Flock::lock(lock, FlockArg::LockExclusiveNonblock).ok());
            if lock.is_some() {
                self.files(&folder, self.before)?;
            }
        }
        Ok(())
    }

    /// A cache that steps share, while no step uses it; then the names that lead nowhere any more.
    fn shared(&mut self, home: &Path) -> Result<()> {
        let lock = File::open(home)
            .ok()
            .and_then(|folder| Flock::lock(folder, FlockArg::LockExclusiveNonblock).ok());
        if lock.is_some() {
            self.files(&home.join("files"), self.before)?;
            if self.act {
                forget_names(&home.join("names"))?;
            }
        }
        Ok(())
    }

    fn files(&mut self, folder: &Path, before: SystemTime) -> Result<()> {
        for (path, meta) in entries(folder).filter(|(_, meta)| meta.is_file()) {
            let changed = Duration::new(
                u64::try_from(meta.ctime()).unwrap_or_default(),
                u32::try_from(meta.ctime_nsec()).unwrap_or_default(),
            );
            if UNIX_EPOCH + changed > before {
                continue;
            }
            if self.act {
                std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
            self.gone.files += 1;
            self.gone.bytes += meta.blocks() * 512;
        }
        Ok(())
    }
}

fn forget_names(names: &Path) -> Result<()> {
    for (path, meta) in entries(names) {
        if meta.is_dir() {
            forget_names(&path)?;
            std::fs::remove_dir(&path).ok();
        } else if meta.is_symlink() && !path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// What is in a folder, as far as it may be looked at: none in one that is not there.
fn entries(folder: &Path) -> impl Iterator<Item = (PathBuf, std::fs::Metadata)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
}

fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    entries(folder).filter(|(_, meta)| meta.is_dir()).map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    fn put(folder: &Path, path: &str, content: &str) -> PathBuf {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn what_was_kept_too_long_ago_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let caches = folder.path();
        let old = [
            put(caches, "apt/files/abc", "one"),
            put(caches, "downloads/def/x.deb", "two"),
            put(caches, "downloads/.download-1", "half"),
            put(caches, "foundations/bookworm/a.deb", "three"),
        ];
        put(caches, "foundations/bookworm.lock", "");
        let lock = put(caches, "foundations/bookworm/lock/apts", "");
        std::fs::create_dir_all(caches.join("apt/names/repo")).unwrap();
        let name = caches.join("apt/names/repo/a.deb");
        std::os::unix::fs::symlink("../../files/abc", &name).unwrap();

        let today = SystemTime::now();
        assert_eq!(shrink(caches, MONTH, today, true).unwrap(), Shrunk::default());
        assert!(old.iter().all(|path| path.exists()));
        let later = today + MONTH + MONTH;
        let shown = shrink(caches, MONTH, later, false).unwrap();
        assert_eq!(shown.files, 4);
        assert!(old.iter().all(|path| path.exists()) && name.is_symlink(), "shown, not done");
        assert_eq!(shrink(caches, MONTH, later, true).unwrap(), shown);
        assert!(!old.iter().any(|path| path.exists()) && !name.is_symlink());
        assert!(!caches.join("downloads/def").exists() && lock.exists() && caches.join("apt/files").is_dir());
        assert_eq!(shrink(&caches.join("gone"), MONTH, later, true).unwrap(), Shrunk::default());
    }

    #[test]
    fn what_a_bake_uses_now_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let caches = folder.path();
        let used = [
            put(caches, "apt/files/abc", ""),
            put(caches, "foundations/bookworm/a.deb", ""),
            put(caches, "downloads/def/x.deb", ""),
        ];
        put(caches, "foundations/bookworm.lock", "");
        let hold = |path: &str, how| Flock::lock(File::open(caches.join(path)).unwrap(), how).unwrap();
        let holds =
            [hold("apt", FlockArg::LockShared), hold("foundations/bookworm.lock", FlockArg::LockExclusive)];
        let now = SystemTime::now() + Duration::from_secs(1);
        assert_eq!(shrink(caches, Duration::ZERO, now, true).unwrap(), Shrunk::default());
        assert!(used.iter().all(|path| path.exists()));
        drop(holds);
        assert_eq!(shrink(caches, Duration::ZERO, now, true).unwrap().files, 2, "but the download");
        assert!(used[2].exists());
    }
}
