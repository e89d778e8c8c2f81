//! /proc and /sys: of the sandbox's own namespaces, what is the whole machine's read-only or hidden.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::root::{Root, is_folder};
use crate::beneath::resolve;
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};

/// Hidden in /proc: memory and addresses of the kernel, its log, its keys, what every process of the machine
/// does, the trigger of its emergency functions, and how the builder was booted (a kernel's installation would
/// write that into the image's boot entries).
const HIDDEN_IN_PROC: &[&str] = &[
    "acpi",
    "asound",
    "cmdline",
    "iomem",
    "ioports",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "pagetypeinfo",
    "sched_debug",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
];

/// Hidden in /sys: firmware tables and variables, and where the kernel's own filesystems would be mounted.
const HIDDEN_IN_SYS: &[&str] = &[
    "firmware",
    "fs/bpf",
    "fs/cgroup",
    "fs/pstore",
    "kernel/boot_params",
    "kernel/debug",
    "kernel/security",
    "kernel/tracing",
    "kernel/vmcoreinfo",
];

/// Mounts a /proc that shows this PID namespace. Besides the processes' own folders everything in it that can
/// be written to is read-only, whatever the kernel has there.
pub(super) fn mount_proc(root: &Root) -> Result<()> {
    let proc = mount::new_filesystem(c"proc", &[], NOSUID | NODEV | NOEXEC).context("making a procfs")?;
    root.attach_at("proc", &proc)?;
    let cover = Cover::new(root)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(&proc, ".", flags, Mode::empty()).context("listing /proc")?;
    for entry in listing.iter() {
        let entry = entry.context("listing /proc")?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        let first = name.as_bytes().first().copied().unwrap_or(b'.');
        if first == b'.' || first.is_ascii_digit() || entry.file_type() == Some(Type::Symlink) {
            continue;
        }
        if HIDDEN_IN_PROC.iter().any(|hidden| name == *hidden) {
            cover.hide(&proc, Path::new(&name))?;
        } else {
            make_read_only(&proc, Path::new(&name))?;
        }
    }
    Ok(())
}

/// Mounts a read-only /sys.
pub(super) fn mount_sys(root: &Root) -> Result<()> {
    let sys =
        mount::new_filesystem(c"sysfs", &[], NOSUID | NODEV | NOEXEC | RDONLY).context("making a sysfs")?;
    root.attach_at("sys", &sys)?;
    let cover = Cover::new(root)?;
    HIDDEN_IN_SYS.iter().try_for_each(|hidden| cover.hide(&sys, Path::new(hidden)))
}

/// An empty file and an empty folder, read-only, to hide things behind.
struct Cover {
    file: OwnedFd,
    folder: OwnedFd,
}

impl Cover {
    fn new(root: &Root) -> Result<Self> {
        let scratch = &root.scratch;
        match mkdirat(scratch, "empty", Mode::from_bits_truncate(0o555)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).context("making an empty folder"),
        }
        let flags = OFlag::O_CREAT | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        openat(scratch, "nothing", flags, Mode::empty()).context("making an empty file")?;
        let open = |name: &str| openat(scratch, name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        Ok(Self {
            file: open("nothing").context("opening an empty file")?,
            folder: open("empty").context("opening an empty folder")?,
        })
    }

    /// Covers an entry of a mounted filesystem, if it is there.
    fn hide(&self, of: &OwnedFd, entry: &Path) -> Result<()> {
        let context = || format!("hiding {}", entry.display());
        let place = match resolve(of.as_fd(), entry, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
            Ok(place) => place,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno).with_context(context),
        };
        let cover = if is_folder(place.as_fd())? { &self.folder } else { &self.file };
        let mount = mount::clone_mount(cover.as_fd(), false).with_context(context)?;
        mount::set_attributes(mount.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, false)
            .with_context(context)?;
        mount::attach(mount.as_fd(), place.as_fd()).with_context(context)
    }
}

/// Binds a folder, or a file that somebody may write to, over itself, read-only.
fn make_read_only(of: &OwnedFd, entry: &Path) -> Result<()> {
    let context = || format!("making {} read-only", entry.display());
    let place = resolve(of.as_fd(), entry, OFlag::O_PATH | OFlag::O_NOFOLLOW).with_context(context)?;
    let writable = fstat(&place).with_context(context)?.st_mode & 0o222 != 0;
    if !is_folder(place.as_fd())? && !writable {
        return Ok(());
    }
    let mount = mount::clone_mount(place.as_fd(), false).with_context(context)?;
    mount::set_attributes(mount.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, false).with_context(context)?;
    mount::attach(mount.as_fd(), place.as_fd()).with_context(context)
}
