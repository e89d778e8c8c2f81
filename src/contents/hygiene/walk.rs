//! Every inode of the image that the bake changed.
//!
//! The kernel sets an inode's change time at every change and lets nobody set it, so that this needs no record
//! of what the base had. Several threads look, since a volume that is loaded from afar answers slowly, but
//! many questions at once.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{Context as _, Result};

use super::places;

/// How many look at once.
const THREADS: usize = 4;

/// Something that changed: its path beneath the root, and what it is.
pub(super) type Changed = (PathBuf, Metadata);

#[derive(Default)]
struct Work {
    folders: Vec<PathBuf>,
    /// Threads that may still add to them.
    busy: usize,
    failed: Option<anyhow::Error>,
}

/// All that changed between two times beneath `root`, sorted by path; what the sandbox mounts is not the image.
pub(super) fn changed(root: &Path, since: (i64, i64), until: (i64, i64)) -> Result<Vec<Changed>> {
    let work = Mutex::new(Work { folders: vec![PathBuf::new()], ..Work::default() });
    let more = Condvar::new();
    let look = || {
        let mut found = Vec::new();
        let mut guard = work.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(folder) = guard.folders.pop() else {
                if guard.busy == 0 || guard.failed.is_some() {
                    more.notify_all();
                    return found;
                }
                guard = more.wait(guard).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            guard.busy += 1;
            drop(guard);
            let mut inner = Vec::new();
            let result = read(root, &folder, (since, until), &mut inner, &mut found);
            guard = work.lock().unwrap_or_else(PoisonError::into_inner);
            guard.busy -= 1;
            guard.folders.append(&mut inner);
            if let Err(error) = result {
                guard.failed.get_or_insert(error);
                guard.folders.clear();
            }
            more.notify_all();
        }
    };
    let mut all: Vec<Changed> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..THREADS).map(|_| scope.spawn(look)).collect();
        let mut all = look();
        for thread in threads {
            // A thread that panicked would have broken the whole process's promise already.
            all.extend(thread.join().unwrap_or_default());
        }
        all
    });
    if let Some(error) = work.into_inner().unwrap_or_else(PoisonError::into_inner).failed {
        return Err(error);
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(all)
}

fn read(
    root: &Path,
    folder: &Path,
    (since, until): ((i64, i64), (i64, i64)),
    folders: &mut Vec<PathBuf>,
    found: &mut Vec<Changed>,
) -> Result<()> {
    let what = || format!("reading /{}", folder.display());
    for entry in std::fs::read_dir(root.join(folder)).with_context(what)? {
        let entry = entry.with_context(what)?;
        let name = entry.file_name();
        let top = folder.as_os_str().is_empty();
        if top && places::NOT_THE_IMAGE.iter().any(|own| name == *own) {
            continue;
        }
        let meta = entry.metadata().with_context(what)?;
        let inner = folder.join(&name);
        if meta.is_dir() {
            folders.push(inner.clone());
        }
        let at = (meta.ctime(), meta.ctime_nsec());
        if since <= at && at <= until {
            found.push((inner, meta));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_found_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path();
        std::fs::create_dir_all(base.join("usr/bin/deep/er")).unwrap();
        std::fs::create_dir_all(base.join("run")).unwrap();
        std::fs::write(base.join("usr/bin/old"), "").unwrap();
        std::fs::write(base.join("usr/bin/deep/er/mode"), "").unwrap();
        let last = std::fs::metadata(base.join("usr/bin/deep/er/mode")).unwrap();
        let last = (last.ctime(), last.ctime_nsec());
        // Until the filesystem's own clock went on.
        let since = loop {
            std::fs::write(base.join("run/clock"), "x").unwrap();
            let now = std::fs::metadata(base.join("run/clock")).unwrap();
            if (now.ctime(), now.ctime_nsec()) > last {
                break (now.ctime(), now.ctime_nsec());
            }
        };
        std::fs::write(base.join("usr/bin/new"), "").unwrap();
        std::fs::write(base.join("run/new"), "").unwrap();
        std::fs::rename(base.join("usr/bin/old"), base.join("usr/bin/moved")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        std::fs::set_permissions(base.join("usr/bin/deep/er/mode"), mode).unwrap();
        let found = changed(base, since, (i64::MAX, 0)).unwrap();
        let found: Vec<_> = found.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(found, ["usr/bin", "usr/bin/deep/er/mode", "usr/bin/moved", "usr/bin/new"]);
        assert!(changed(base, (i64::MAX, 0), (i64::MAX, 0)).unwrap().is_empty());
        assert!(changed(&base.join("nowhere"), since, since).is_err());
    }
}
