//! What is done inside a fresh root, by its own programs.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{Mounted, folder_in};
use crate::program::Program;
use crate::stop::Stop;

const SETTLE: &str = include_str!("settle.sh");

/// The devices that programs expect: name, major and minor number (the kernel's
/// Documentation/admin-guide/devices.txt).
const DEVICES: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Settles a root whose filesystem has this UUID. `nodes` are the disk and its partitions, the disk first and its
/// root second; with `boots` the boot loader is installed.
pub(super) fn settle(
    root: &Path,
    uuid: &str,
    nodes: &[PathBuf; 3],
    boots: bool,
    stop: &Stop,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let devices = Mounted::new(&folder_in(root, "dev")?, None, "tmpfs", Some("mode=755"))?;
    make_devices(&root.join("dev"), uuid, nodes)?;
    let proc = Mounted::new(&folder_in(root, "proc")?, None, "proc", None)?;
    let sys = Mounted::new(&folder_in(root, "sys")?, None, "sysfs", Some("ro"))?;
    let run = Mounted::new(&folder_in(root, "run")?, None, "tmpfs", Some("mode=755"))?;
    let temporary = Mounted::new(&folder_in(root, "tmp")?, None, "tmpfs", Some("mode=1777"))?;

    let [disk, ..] = nodes;
    // A PID namespace, so that nothing which a program starts outlives the settling.
    let mut program = Program::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--", "chroot"])
        .arg(root)
        .args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"])
        .args(["DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=1"])
        .arg(format!("ROOT_UUID={uuid}"));
    if boots {
        program = program.arg(format!("DISK={}", disk.display()));
    }
    program
        .args(["/bin/sh", "-s"])
        .input(SETTLE)
        .run(stop, &mut |line| tell(line))
        .context("settling the root")?;
    for mounted in [temporary, run, sys, proc, devices] {
        mounted.unmount()?;
    }
    Ok(())
}

/// A `/dev` with the disk and nothing else of this host. The link by UUID tells GRUB that Linux will find the root by
/// its UUID: see `10_linux`, which writes the device's name otherwise.
fn make_devices(dev: &Path, uuid: &str, nodes: &[PathBuf; 3]) -> Result<()> {
    let make = |path: &Path, kind: SFlag, number: u64| {
        mknod(path, kind, Mode::from_bits_truncate(0o666), number)
            .with_context(|| format!("making {}", path.display()))
    };
    for (name, major, minor) in DEVICES {
        make(&dev.join(name), SFlag::S_IFCHR, makedev(*major, *minor))?;
    }
    for node in nodes {
        let metadata = std::fs::metadata(node).with_context(|| format!("looking at {}", node.display()))?;
        let name = node.file_name().with_context(|| format!("naming {}", node.display()))?;
        make(&dev.join(name), SFlag::S_IFBLK, metadata.rdev())?;
    }
    let [_, root_node, _] = nodes;
    let name = root_node.file_name().unwrap_or_default();
    let folder = dev.join("disk/by-uuid");
    std::fs::create_dir_all(&folder)
        .and_then(|()| symlink(Path::new("../..").join(name), folder.join(uuid)))
        .and_then(|()| symlink("/proc/self/fd", dev.join("fd")))
        .with_context(|| format!("naming the root below {}", folder.display()))
}
