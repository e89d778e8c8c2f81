//! What is mounted while a root is filled, and the folders of a root that it is mounted on.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Something mounted, until it is dropped.
#[derive(Debug)]
pub(super) struct Mounted {
    target: Option<PathBuf>,
}

impl Mounted {
    pub(super) fn new(
        target: &Path,
        source: Option<&Path>,
        kind: &str,
        options: Option<&str>,
    ) -> Result<Self> {
        let flags = if kind == "bind" { MsFlags::MS_BIND } else { MsFlags::empty() };
        let kind_given = (kind != "bind").then_some(kind);
        mount(source.or(Some(Path::new("none"))), target, kind_given, flags, options)
            .with_context(|| format!("mounting {kind} on {}", target.display()))?;
        Ok(Self { target: Some(target.to_owned()) })
    }

    pub(super) fn unmount(mut self) -> Result<()> {
        match self.target.take() {
            Some(target) => umount2(&target, MntFlags::empty())
                .with_context(|| format!("unmounting {}", target.display())),
            None => Ok(()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(target) = self.target.take()
            && let Err(errno) = umount2(&target, MntFlags::MNT_DETACH)
        {
            tracing::warn!("unmounting {}: {errno}", target.display());
        }
    }
}

/// A folder of a root that is there, and is no link that could lead out of it. The root is our own and nothing
/// runs in it meanwhile, so that looking before using is enough.
pub(super) fn folder_in(root: &Path, path: &str) -> Result<PathBuf> {
    let mut folder = root.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        folder.push(part);
        let metadata = match std::fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir(&folder).and_then(|()| std::fs::symlink_metadata(&folder))
            }
            metadata => metadata,
        }
        .with_context(|| format!("making {}", folder.display()))?;
        anyhow::ensure!(
            metadata.is_dir(),
            "{} is not a folder (mode {:o})",
            folder.display(),
            metadata.mode()
        );
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_a_root_is_never_reached_by_a_link() {
        let root = tempfile::tempdir().unwrap();
        assert!(folder_in(root.path(), "/var/cache").unwrap().ends_with("var/cache"));
        std::os::unix::fs::symlink("/etc", root.path().join("var/lib")).unwrap();
        assert!(folder_in(root.path(), "var/lib").is_err());
        assert!(folder_in(root.path(), "var/lib/apt").is_err());
    }
}
