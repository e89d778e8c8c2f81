//! A bake's folder under `/run/bakehouse`: its mount point, and its steps' folders while they run.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Removes the folder of a bake that is over. The mount point is never removed recursively: were something
/// still mounted there, it would be the image's content that goes. What else a bake killed in mid-step left
/// (its step's scripts and parameters) goes only where nothing at all is mounted beneath.
///
/// # Errors
/// Something is mounted beneath, or is there that a bake does not put there.
pub fn forget_work(folder: &Path) -> Result<()> {
    let what = |path: &Path| format!("removing {}", path.display());
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("reading {}", folder.display()))?,
    };
    if let Some(mount) = mounted_beneath(folder)? {
        bail!("{mount} is mounted: it stays, and so does {}", folder.display());
    }
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let path = entry.path();
        let name = entry.file_name();
        let removed = match name.to_string_lossy() {
            name if name.starts_with("step-") => std::fs::remove_dir_all(&path),
            name if name == super::operator::GO_ON => std::fs::remove_file(&path),
            _ => std::fs::remove_dir(&path),
        };
        there_or_gone(removed).with_context(|| what(&path))?;
    }
    there_or_gone(std::fs::remove_dir(folder)).with_context(|| what(folder))
}

fn there_or_gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The first mount beneath a folder that this process sees.
fn mounted_beneath(folder: &Path) -> Result<Option<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    // A bake's folder has no character that mountinfo writes otherwise.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_bakes_folder_goes_but_for_what_no_bake_puts_there() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("bake-1");
        forget_work(&folder).unwrap();
        std::fs::create_dir_all(folder.join("root")).unwrap();
        std::fs::create_dir_all(folder.join("step-0/files")).unwrap();
        std::fs::write(folder.join("step-0/files/setup.sh"), "x").unwrap();
        std::fs::write(folder.join("go-on"), "").unwrap();
        forget_work(&folder).unwrap();
        assert!(!folder.exists());

        std::fs::create_dir_all(folder.join("root/etc")).unwrap();
        let error = forget_work(&folder).unwrap_err();
        assert!(format!("{error:#}").contains("bake-1/root"), "{error:#}");
        assert!(folder.join("root/etc").is_dir(), "an image's content is never removed");
    }
}
