//! What packages brought during the bake: where packages keep their files, the audit reads all else.
//!
//! Packages ship test keys and examples, which are everybody's, so that reading what they bring would tell of nothing
//! but noise. What a step put beside it, an app below /usr/share with its `.env`, is another matter.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::tree;
use super::walk::Changed;

/// Where packages keep their files. `usr/local` is nobody's but the machine's.
const PLACES: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "boot", "efi"];

/// Folders that are links where a distribution has merged them; packages may still call their files by them. The last
/// is what some of the others lead to.
const MERGED: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr/sbin"];

/// Where dpkg keeps its lists of files.
const DPKG_LISTS: &str = "var/lib/dpkg/info";

/// The files of the packages that were installed during the bake.
#[derive(Debug, Default)]
pub(super) struct Brought {
    files: HashSet<PathBuf>,
    /// When the bake began: seconds and nanoseconds since 1970.
    since: (i64, i64),
}

impl Brought {
    /// By those of dpkg's lists that changed, and by `rpm`, paths a line.
    ///
    /// # Errors
    /// That a list could not be read.
    pub(super) fn of(root: &Path, changed: &[Changed], rpm: &str, since: (i64, i64)) -> Result<Self> {
        let merged: Vec<_> = MERGED.iter().filter_map(|folder| merged(root, folder)).collect();
        let mut brought = Self { files: HashSet::new(), since };
        brought.add(rpm, &merged);
        for (inner, meta) in changed {
            let is_list = inner.parent() == Some(Path::new(DPKG_LISTS))
                && inner.extension().is_some_and(|extension| extension == "list");
            if is_list && meta.is_file() {
                brought.add(&tree::text(&root.join(inner))?.unwrap_or_default(), &merged);
            }
        }
        Ok(brought)
    }

    fn add(&mut self, list: &str, merged: &[(&Path, PathBuf)]) {
        for line in list.lines() {
            let Some(inner) = line.strip_prefix('/') else { continue };
            let mut path = PathBuf::from(inner);
            for (folder, real) in merged {
                if let Ok(rest) = path.strip_prefix(folder) {
                    path = real.join(rest);
                }
            }
            self.files.insert(path);
        }
    }

    /// Whether a changed file is one of a package, as the package brought it: what is written to afterwards is younger
    /// than the bake.
    pub(super) fn has(&self, inner: &Path, meta: &std::fs::Metadata) -> bool {
        let is_as_brought = (meta.mtime(), meta.mtime_nsec()) < self.since;
        (is_as_brought && self.files.contains(inner))
            || source_of(inner).is_some_and(|source| self.files.contains(&source))
    }
}

/// Whether packages keep their files there.
pub(super) fn is_packages(inner: &Path) -> bool {
    PLACES.iter().any(|folder| inner.starts_with(folder)) && !inner.starts_with("usr/local")
}

/// Where a merged folder leads, beneath the root.
fn merged<'f>(root: &Path, folder: &'f str) -> Option<(&'f Path, PathBuf)> {
    let folder = Path::new(folder);
    let target = std::fs::read_link(root.join(folder)).ok()?;
    let real = match target.strip_prefix("/") {
        Ok(inner) => inner.to_owned(),
        Err(_) => folder.parent()?.join(target),
    };
    Some((folder, real))
}

/// The module that Python keeps the compiled form of there: Debian's packages have it compiled as they are installed.
fn source_of(compiled: &Path) -> Option<PathBuf> {
    let cache = compiled.parent().filter(|folder| folder.ends_with("__pycache__"))?;
    let module = compiled.file_name()?.to_str()?.strip_suffix(".pyc")?.split('.').next()?;
    Some(cache.parent()?.join(format!("{module}.py")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packages_files_are_known_by_their_merged_names_and_while_they_are_as_it_brought_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["usr/bin", "usr/share/web", "var/lib/dpkg/info"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        for (link, target) in [("bin", "usr/bin"), ("sbin", "/usr/sbin"), ("usr/sbin", "bin")] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let put = |path: &str, content: &str| -> Changed {
            std::fs::write(root.join(path), content).unwrap();
            (path.into(), std::fs::metadata(root.join(path)).unwrap())
        };
        let changed = [
            put("var/lib/dpkg/info/web:amd64.list", "/.\n/bin/web\n/sbin/webd\n/usr/share/web/mod.py\n"),
            put("var/lib/dpkg/info/web.md5sums", "/usr/share/web/none\n"),
        ];
        let brought =
            Brought::of(root, &changed, "/usr/share/web/rpms\nwarning: x\n", (i64::MAX, 0)).unwrap();
        let (_, meta) = &changed[0];
        let has = |path: &str| brought.has(Path::new(path), meta);
        for path in ["usr/bin/web", "usr/bin/webd", "usr/share/web/rpms"] {
            assert!(has(path), "{path}");
        }
        assert!(has("usr/share/web/__pycache__/mod.cpython-311.pyc"));
        for path in
            ["bin/web", "usr/share/web/none", "usr/share/web/__pycache__/other.cpython-311.pyc", "usr"]
        {
            assert!(!has(path), "{path}");
        }
        let later = Brought { since: (0, 0), ..brought };
        assert!(!later.has(Path::new("usr/bin/web"), meta), "it was written to since");
        assert!(is_packages(Path::new("usr/src/app/.env")) && !is_packages(Path::new("usr/local/app")));
    }
}
