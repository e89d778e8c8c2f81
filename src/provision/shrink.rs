//! What the builder keeps for bakes to come, made smaller: files that were kept, or used, too long ago.
//!
//! What a step reads of a cache it reads through a read-only mount, and so leaves no trace there: a cached file's age is
//! counted from when it was kept. What is wanted again is fetched again, and kept anew.

//!
//! The cache folder may be one that other programs use too (`/var/cache`): only what has the form that the builder itself
//! gives it is touched.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use nix::fcntl::{Flock, FlockArg};

use super::{cache, download};
use crate::broom::{Broom, Remove, Swept, entries, folders, name_of};

/// A bake looks whether its downloads are there, and stages them later: what was looked at so lately stays.
const LOOKED_AT: Duration = Duration::from_secs(6 * 3600);

/// Removes what was kept for longer than `older` from a folder of caches; without `act` it only says what that is.
/// Caches that a bake is using now are left for the next time. What went is told beside what did not.
///
/// # Errors
/// The first thing that kept a file from being removed. All others went nevertheless.
pub fn shrink(caches: &Path, older: Duration, now: SystemTime, act: bool) -> (Swept, Result<()>) {
    let remove: &Remove<'_> = &|path| std::fs::remove_file(path);
    shrink_by(caches, older, now, act.then_some(remove))
}

fn shrink_by(
    caches: &Path,
    older: Duration,
    now: SystemTime,
    remove: Option<&Remove<'_>>,
) -> (Swept, Result<()>) {
    let mut broom = Broom::new(older, now, remove);
    for home in folders(caches) {
        match name_of(&home) {
            "downloads" => broom.downloads(&home, now),
            "foundations" => broom.foundations(&home),
            _ => broom.shared(&home),
        }
    }
    (broom.gone, broom.wrong)
}

impl Broom<'_> {
    /// `downloads/DIGEST/NAME`, and `downloads/s3/DIGEST/NAME`: each was looked at when a bake began that names it. What
    /// lies beside these folders is of bakes that were killed while they fetched it.
    fn downloads(&mut self, home: &Path, now: SystemTime) {
        let before = self.before.min(now.checked_sub(LOOKED_AT).unwrap_or(UNIX_EPOCH));
        self.files(home, before, |name| name.starts_with(download::PART));
        for folder in folders(home).chain(folders(&home.join("s3"))) {
            if !cache::is_digest(name_of(&folder)) {
                continue;
            }
            self.files(&folder, before, |_| true);
            if self.remove.is_some() {
                // Where anything is left in it, it stays.
                std::fs::remove_dir(&folder).ok();
            }
        }
    }

    /// `foundations/SUITE/*.deb`, while nobody bootstraps that suite.
    fn foundations(&mut self, home: &Path) {
        for folder in folders(home) {
            let lock = File::open(home.join(format!("{}.lock", name_of(&folder))))
                .ok()
                .and_then(|lock| Flock::lock(lock, FlockArg::LockExclusiveNonblock).ok());
            if lock.is_some() {
                self.files(&folder, self.before, |name| name.ends_with(".deb"));
            }
        }
    }

    /// A cache that steps share, while no step uses it; then the names that lead nowhere any more.
    fn shared(&mut self, home: &Path) {
        if !cache::is_home(home) {
            return;
        }
        let lock = File::open(home)
            .ok()
            .and_then(|folder| Flock::lock(folder, FlockArg::LockExclusiveNonblock).ok());
        if lock.is_some() {
            let files = home.join("files");
            self.files(&files, self.before, cache::is_digest);
            if self.remove.is_some() {
                self.forget_names(&home.join("names"), &files, 1);
            }
        }
    }

    /// Links `depth` folders below the cache that lead to none of its files any more.
    fn forget_names(&mut self, names: &Path, files: &Path, depth: usize) {
        for (path, meta) in entries(names) {
            if meta.is_dir() {
                self.forget_names(&path, files, depth + 1);
                std::fs::remove_dir(&path).ok();
                continue;
            }
            let Ok(link) = std::fs::read_link(&path) else { continue };
            let digest = name_of(&link);
            if cache::is_digest(digest)
                && link == cache::link_to(digest, depth)
                && !files.join(digest).exists()
            {
                self.removed(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::PathBuf;

    use super::*;

    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    fn put(folder: &Path, path: &str, content: &str) -> PathBuf {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn swept(caches: &Path, older: Duration, now: SystemTime, act: bool) -> Swept {
        let (gone, done) = shrink(caches, older, now, act);
        done.unwrap();
        gone
    }

    const DIGEST: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn link(folder: &Path, path: &str, to: &str) -> PathBuf {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, &path).unwrap();
        path
    }

    #[test]
    fn what_other_programs_keep_in_the_same_folder_is_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let caches = folder.path();
        let theirs = [
            put(caches, "fonts/files/a", ""),
            put(caches, "editor/files/b", ""),
            put(caches, &format!("editor/files/{DIGEST}"), ""),
            link(caches, "editor/names/x", "gone"),
            put(caches, "downloads/holiday.jpg", ""),
            put(caches, "downloads/2026/bill.pdf", ""),
            put(caches, &format!("downloads/s3x/{DIGEST}/x"), ""),
            put(caches, "foundations/house/plan.deb", ""),
            put(caches, "foundations/v1.2/plan.deb", ""),
            put(caches, "foundations/v1.lock", ""),
            put(caches, "foundations/bookworm/notes", ""),
            put(caches, "foundations/bookworm.lock", ""),
            // Theirs too, though all three folders are there.
            put(caches, "apt/files/archive.deb", ""),
            link(caches, "apt/names/elsewhere", "../../gone"),
            link(caches, "apt/names/otherwise", "../files/abc"),
        ];
        std::fs::create_dir_all(caches.join("apt/work")).unwrap();
        std::fs::create_dir_all(caches.join("downloads/empty")).unwrap();
        let later = SystemTime::now() + MONTH + MONTH;
        assert_eq!(swept(caches, MONTH, later, true), Swept::default());
        for path in theirs {
            assert!(path.symlink_metadata().is_ok(), "{} is gone", path.display());
        }
        assert!(caches.join("downloads/empty").is_dir());
    }

    #[test]
    fn objects_without_a_checksum_are_downloads_too() {
        let folder = tempfile::tempdir().unwrap();
        let object = put(folder.path(), &format!("downloads/s3/{DIGEST}/web.tar.gz"), "one");
        let later = SystemTime::now() + MONTH + MONTH;
        assert_eq!(swept(folder.path(), MONTH, later, true).files, 1);
        assert!(!object.parent().unwrap().exists());
    }

    #[test]
    fn what_was_kept_too_long_ago_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let caches = folder.path();
        let old = [
            put(caches, &format!("apt/files/{DIGEST}"), "one"),
            put(caches, &format!("downloads/{DIGEST}/x.deb"), "two"),
            put(caches, "downloads/.download-1", "half"),
            put(caches, "foundations/bookworm/a.deb", "three"),
        ];
        put(caches, "foundations/bookworm.lock", "");
        let lock = put(caches, "foundations/bookworm/lock/apts", "");
        std::fs::create_dir_all(caches.join("apt/work")).unwrap();
        let name = link(caches, "apt/names/repo/a.deb", &format!("../../files/{DIGEST}"));

        let today = SystemTime::now();
        assert_eq!(swept(caches, MONTH, today, true), Swept::default());
        assert!(old.iter().all(|path| path.exists()));
        let later = today + MONTH + MONTH;
        let shown = swept(caches, MONTH, later, false);
        assert_eq!(shown.files, 4);
        assert!(old.iter().all(|path| path.exists()) && name.is_symlink(), "shown, not done");
        assert_eq!(swept(caches, MONTH, later, true), shown);
        assert!(!old.iter().any(|path| path.exists()) && !name.is_symlink());
        assert!(!caches.join("downloads").join(DIGEST).exists() && !caches.join("apt/names/repo").exists());
        assert!(lock.exists() && caches.join("apt/files").is_dir());
        assert_eq!(swept(&caches.join("gone"), MONTH, later, true), Swept::default());
    }

    #[test]
    fn what_a_bake_uses_now_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let caches = folder.path();
        let used = [
            put(caches, &format!("apt/files/{DIGEST}"), ""),
            put(caches, "foundations/bookworm/a.deb", ""),
            put(caches, &format!("downloads/{DIGEST}/x.deb"), ""),
        ];
        for folder in ["apt/names", "apt/work"] {
            std::fs::create_dir_all(caches.join(folder)).unwrap();
        }
        put(caches, "foundations/bookworm.lock", "");
        let hold = |path: &str, how| Flock::lock(File::open(caches.join(path)).unwrap(), how).unwrap();
        let holds =
            [hold("apt", FlockArg::LockShared), hold("foundations/bookworm.lock", FlockArg::LockExclusive)];
        let now = SystemTime::now() + Duration::from_secs(1);
        assert_eq!(swept(caches, Duration::ZERO, now, true), Swept::default());
        assert!(used.iter().all(|path| path.exists()));
        drop(holds);
        assert_eq!(swept(caches, Duration::ZERO, now, true).files, 2, "but the download");
        assert!(used[2].exists());
    }

    #[test]
    fn what_is_in_the_way_keeps_no_other_file_from_going() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..5)
            .map(|n| put(folder.path(), &format!("downloads/{}{n}/x", DIGEST.split_at(63).0), ""))
            .collect();
        let remove = |path: &Path| {
            let number = paths.iter().position(|known| known == path).unwrap();
            if number == 4 {
                // As another gc would, between the look and the removal.
                std::fs::remove_file(path)?;
            }
            if number % 2 == 1 {
                return Err(ErrorKind::PermissionDenied.into());
            }
            std::fs::remove_file(path)
        };
        let later = SystemTime::now() + MONTH + MONTH;
        let (gone, done) = shrink_by(folder.path(), MONTH, later, Some(&remove));
        assert_eq!(gone.files, 2);
        assert!(format!("{:#}", done.unwrap_err()).starts_with("removing "));
        let left: Vec<_> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(left, [false, true, false, true, false]);
    }
}
