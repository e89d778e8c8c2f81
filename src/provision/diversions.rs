//! dpkg's list of diversions: three lines each, the path, where it is diverted to, and the package that asked
//! (`:` for the system's operator), in /var/lib/dpkg/diversions (dpkg-divert(1)).
//!
//! The list is written here rather than by the image's dpkg-divert, which would also leave a
//! `diversions-old` behind that differs from the base's.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::guard::replace;

const FOLDER: &str = "/var/lib/dpkg";

/// Diverts each path to itself with `suffix`, where the root has dpkg; those that were added.
pub(super) fn add(paths: &[PathBuf], suffix: &str) -> Result<Vec<PathBuf>> {
    let file = Path::new(FOLDER).join("diversions");
    if paths.is_empty() || !Path::new(FOLDER).is_dir() {
        return Ok(Vec::new());
    }
    let before = read(&file)?.unwrap_or_default();
    let (after, added) = with(&before, paths, suffix);
    if !added.is_empty() {
        replace(&file, &after)?;
    }
    Ok(added)
}

/// Takes diversions away again that [`add`] added, from the list and from its backup.
pub(super) fn remove(paths: &[PathBuf], suffix: &str) -> Result<()> {
    for name in ["diversions", "diversions-old"] {
        let file = Path::new(FOLDER).join(name);
        let Some(before) = read(&file)? else { continue };
        let after = without(&before, paths, suffix);
        if after != before {
            replace(&file, &after)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn stanza(path: &Path, suffix: &str) -> String {
    let path = path.display();
    format!("{path}\n{path}{suffix}\n:\n")
}

fn with(before: &str, paths: &[PathBuf], suffix: &str) -> (String, Vec<PathBuf>) {
    let mut after = before.to_owned();
    let mut added = Vec::new();
    for path in paths {
        // One that the image has is its own business: dpkg knows one diversion a path.
        let known = path.to_string_lossy();
        if before.lines().step_by(3).any(|line| line == known) || added.contains(path) {
            continue;
        }
        after.push_str(&stanza(path, suffix));
        added.push(path.clone());
    }
    (after, added)
}

fn without(before: &str, paths: &[PathBuf], suffix: &str) -> String {
    let ours: Vec<String> = paths.iter().map(|path| stanza(path, suffix)).collect();
    let lines: Vec<&str> = before.split_inclusive('\n').collect();
    lines.chunks(3).map(|stanza| stanza.concat()).filter(|stanza| !ours.contains(stanza)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_and_removed_it_is_as_before() {
        let before = "/bin/sh\n/bin/sh.distrib\ndash\n/sbin/x\n/sbin/x.y\n:\n";
        let paths = [PathBuf::from("/sbin/x"), PathBuf::from("/usr/sbin/service")];
        let (after, added) = with(before, &paths, ".bakehouse");
        assert_eq!(added, [PathBuf::from("/usr/sbin/service")]);
        assert_eq!(after, format!("{before}/usr/sbin/service\n/usr/sbin/service.bakehouse\n:\n"));
        // A package's own diversion that came in between stays.
        let later = format!("{after}/a\n/b\nc\n");
        assert_eq!(without(&later, &added, ".bakehouse"), format!("{before}/a\n/b\nc\n"));
        assert_eq!(without(&after, &added, ".bakehouse"), before);
    }
}
