//! Looks at this host. What cannot be seen counts as not there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::judge::{Facts, family};
use crate::disk::NEEDED;
use crate::program;

/// What is to be seen here, for a store in `store` and the other folders, each by what is in it.
pub fn look(store: &Path, others: [(&'static str, &Path); 3]) -> Facts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let names = NEEDED.iter().map(|needed| needed.program);
    let more = ["mmdebstrap", "mkfs.ext4", "qemu-img", "qemu-system-x86_64"];
    let programs = names
        .chain(more)
        .filter(|name| program::find(OsStr::new(name)).is_some())
        .map(str::to_owned)
        .collect();
    let there = nearest(store);
    Facts {
        root: nix::unistd::geteuid().is_root(),
        capabilities: effective(&read("/proc/self/status")),
        family: family(&read("/etc/os-release")),
        programs,
        filesystems: filesystems(&read("/proc/filesystems"), &modules()),
        loop_control: Path::new("/dev/loop-control").exists(),
        walls: crate::sandbox::walls()
            .into_iter()
            .map(|wall| (wall.what.to_owned(), wall.lacking, wall.needed))
            .collect(),
        store: there.display().to_string(),
        free: free(there),
        rooms: others
            .map(|(what, folder)| {
                let there = nearest(folder);
                (what, there.display().to_string(), free(there))
            })
            .into(),
        reflink: reflink(there),
        kvm: OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok(),
    }
}

/// A folder, or the nearest above it that is there.
fn nearest(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"))
}

/// Free bytes in it.
fn free(folder: &Path) -> u64 {
    nix::sys::statvfs::statvfs(folder)
        .map_or(0, |room| room.blocks_available().saturating_mul(room.fragment_size()))
}

/// The effective capabilities in `/proc/self/status`.
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// The lists of what the running kernel has as modules, loaded or not.
fn modules() -> String {
    let Ok(name) = nix::sys::utsname::uname() else { return String::new() };
    let folder = Path::new("/lib/modules").join(name.release());
    ["modules.builtin", "modules.dep"]
        .map(|list| std::fs::read_to_string(folder.join(list)).unwrap_or_default())
        .concat()
}

fn filesystems(registered: &str, modules: &str) -> BTreeSet<String> {
    let known = registered.lines().filter_map(|line| line.split_whitespace().last());
    let loadable = modules.lines().filter_map(|line| {
        let path = line.split(':').next().unwrap_or_default();
        path.strip_prefix("kernel/fs/")?.rsplit('/').next()?.split(".ko").next()
    });
    known.chain(loadable).map(str::to_owned).collect()
}

/// Whether two files in a folder can share a block; none where no file can be made there.
fn reflink(folder: &Path) -> Option<bool> {
    let mut one: File = tempfile::tempfile_in(folder).ok()?;
    let other = tempfile::tempfile_in(folder).ok()?;
    one.write_all(&[1; 4096]).ok()?;
    Some(crate::sys::clone_file(one.as_fd(), other.as_fd()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        assert_eq!(effective("garbage"), 0);
        let found = filesystems(
            "nodev\tsysfs\n\text4\n",
            "kernel/fs/xfs/xfs.ko.zst: kernel/lib/x.ko\nkernel/fs/btrfs/btrfs.ko:\nkernel/drivers/net/e1000.ko:\n",
        );
        assert_eq!(found, ["btrfs", "ext4", "sysfs", "xfs"].map(str::to_owned).into());
    }

    #[test]
    fn looking_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("not/there/yet");
        let facts = look(&there, ["journals", "caches", "logs"].map(|what| (what, there.as_path())));
        let shown = folder.path().display().to_string();
        assert_eq!(facts.store, shown);
        assert!(facts.free > 0);
        assert!(facts.rooms.iter().all(|(_, folder, free)| *folder == shown && *free > 0), "{facts:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
