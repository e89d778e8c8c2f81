//! Who holds a filesystem: asked only when it would not unmount, to name him in the error.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{block, mountinfo};

/// No more than these are named.
const SHOWN: usize = 5;

/// Names those who use anything on the filesystems mounted at and beneath `folder`: processes by their open
/// files, folders, programs and mount namespaces; loop devices by their files. Best effort: what cannot be
/// read is passed over.
pub(super) fn of(folder: &Path) -> Vec<String> {
    let mounts = mountinfo::at_and_beneath(folder).unwrap_or_default();
    // For Btrfs the device number of a file is not that of the mount, so both are looked for.
    let files: BTreeSet<u64> =
        mounts.iter().filter_map(|mount| Some(mount.point.metadata().ok()?.dev())).collect();
    let sources: BTreeSet<(u64, u64)> = mounts
        .iter()
        .filter(|mount| mount.source.starts_with("/dev"))
        .map(|mount| mount.device)
        .chain(files.iter().map(|device| block::numbers(*device)))
        .collect();
    processes(&files, &sources).into_iter().chain(loops(folder)).collect()
}

/// Those who hold a device that is no longer mounted here: other mount namespaces, above all.
pub(super) fn of_device(node: &Path) -> Vec<String> {
    let device = node.metadata().map(|metadata| metadata.rdev()).unwrap_or_default();
    processes(&BTreeSet::from([device]), &BTreeSet::from([block::numbers(device)]))
}

/// A sentence about them.
pub(super) fn sentence(holders: &[String]) -> String {
    let mut text = match holders {
        [] => "who holds it could not be found out".to_owned(),
        _ => format!(
            "held by {}",
            holders.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ")
        ),
    };
    if let Some(more) = holders.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn processes(files: &BTreeSet<u64>, sources: &BTreeSet<(u64, u64)>) -> Vec<String> {
    let own_namespace = Path::new("/proc/thread-self/ns/mnt").read_link().ok();
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter()
        .filter_map(|pid| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let how = use_of(&proc, files)
                .or_else(|| mapped(&proc, files))
                .or_else(|| mounted(&proc, sources, own_namespace.as_deref()))?;
            let name = std::fs::read_to_string(proc.join("comm")).unwrap_or_default();
            Some(format!("process {pid} ({}): {how}", name.trim()))
        })
        .collect()
}

fn use_of(proc: &Path, files: &BTreeSet<u64>) -> Option<String> {
    let on_it = |link: &Path| {
        link.metadata()
            .is_ok_and(|metadata| files.contains(&metadata.dev()) || files.contains(&metadata.rdev()))
    };
    for (link, what) in [("cwd", "current folder"), ("root", "root folder"), ("exe", "program")] {
        let link = proc.join(link);
        if on_it(&link) {
            return Some(shown(what, &link));
        }
    }
    let open = std::fs::read_dir(proc.join("fd")).ok()?;
    open.flatten().map(|entry| entry.path()).find(|link| on_it(link)).map(|link| shown("open file", &link))
}

fn shown(what: &str, link: &Path) -> String {
    let target = link.read_link().unwrap_or_default();
    format!("{what} {}", target.display())
}

fn mapped(proc: &Path, files: &BTreeSet<u64>) -> Option<String> {
    let maps = std::fs::read(proc.join("maps")).ok()?;
    let devices: Vec<String> = files
        .iter()
        .map(|device| block::numbers(*device))
        .map(|(major, minor)| format!("{major:02x}:{minor:02x}"))
        .collect();
    String::from_utf8_lossy(&maps).lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let device = fields.nth(3)?;
        devices
            .iter()
            .any(|wanted| wanted == device)
            .then(|| format!("mapped file {}", fields.nth(1).unwrap_or("?")))
    })
}

fn mounted(proc: &Path, sources: &BTreeSet<(u64, u64)>, own: Option<&Path>) -> Option<String> {
    let namespace = proc.join("ns/mnt").read_link().ok()?;
    if Some(namespace.as_path()) == own {
        return None;
    }
    let mounts = mountinfo::parse(&std::fs::read(proc.join("mountinfo")).ok()?);
    let mount = mounts.into_iter().find(|mount| sources.contains(&mount.device))?;
    Some(format!("mounted at {} in a namespace of its own", mount.point.display()))
}

fn loops(folder: &Path) -> Vec<String> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices
        .filter_map(|entry| {
            let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            let file = file.trim_end_matches('\n');
            Path::new(file)
                .starts_with(folder)
                .then(|| format!("/dev/{} (its file is {file})", entry.file_name().to_string_lossy()))
        })
        .collect()
}
