//! What is done inside a fresh root, by its own programs.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{Mounted, folder_in};
use crate::disk::LaidOut;
use crate::error::{Failure, Kind};
use crate::plan::Arch;
use crate::program::Program;
use crate::stop::Stop;

const SETTLE: &str = include_str!("settle.sh");
const BOOT: &str = include_str!("boot.sh");

/// Where `boot.sh` puts what belongs in the EFI system partition.
const ESP: &str = "run/bakehouse/esp";

/// The devices that programs expect: name, major and minor number (the kernel's
/// Documentation/admin-guide/devices.txt).
const DEVICES: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A fresh root with what its programs expect to be mounted.
#[derive(Debug)]
pub(super) struct Inside<'r> {
    root: &'r Path,
    laid: &'r LaidOut,
    /// The first is the last to go.
    mounts: Vec<Mounted>,
}

impl<'r> Inside<'r> {
    /// Mounts what is needed. Of this host's devices only the disk is there.
    pub(super) fn enter(root: &'r Path, laid: &'r LaidOut) -> Result<Self> {
        let mut inside = Self { root, laid, mounts: Vec::new() };
        inside.mount("dev", "tmpfs", "mode=755")?;
        make_devices(&root.join("dev"), laid)?;
        inside.mount("proc", "proc", "")?;
        inside.mount("sys", "sysfs", "ro")?;
        inside.mount("run", "tmpfs", "mode=755")?;
        inside.mount("tmp", "tmpfs", "mode=1777")?;
        Ok(inside)
    }

    fn mount(&mut self, folder: &str, kind: &str, options: &str) -> Result<()> {
        let folder = folder_in(self.root, folder)?;
        let options = Some(options).filter(|options| !options.is_empty());
        self.mounts.push(Mounted::new(&folder, None, kind, options)?);
        Ok(())
    }

    /// Settles a Debian.
    pub(super) fn settle(&self, boots: bool, stop: &Stop, tell: &mut dyn FnMut(&str)) -> Result<()> {
        let boots = if boots { "BOOTS=yes" } else { "BOOTS=" };
        self.run(SETTLE, &[boots.to_owned()], stop, tell).context("settling the root")
    }

    /// Installs GRUB with the root's own; the folder with what belongs in the EFI system partition.
    pub(super) fn boot_loader(&self, arch: Arch, stop: &Stop, tell: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        let mut variables = vec![
            format!("ROOT_UUID={}", self.laid.uuid),
            format!("FILESYSTEM={}", self.laid.filesystem.as_str()),
        ];
        if self.laid.bios.is_some() {
            variables.push(format!("DISK={}", self.laid.disk.display()));
        }
        if self.laid.esp.is_some() {
            variables.push(format!("ESP=/{ESP}"));
            // The names of the target and of the removable path's file (UEFI specification, 3.5.1.1).
            let (target, file) = match arch {
                Arch::X86_64 => ("x86_64-efi", "BOOTX64.EFI"),
                Arch::Arm64 => ("arm64-efi", "BOOTAA64.EFI"),
            };
            variables.extend([format!("EFI_TARGET={target}"), format!("EFI_FILE={file}")]);
        }
        let folder = folder_in(self.root, ESP)?;
        self.run(BOOT, &variables, stop, tell)
            .map_err(|error| match crate::error::exit_status(&error) {
                1 => error.context(
                    Failure::new(Kind::Step, "the boot loader was not installed")
                        .hint("the bootstrap must bring a kernel, GRUB and udev, which GRUB asks about partitions; or say boot_loader = false"),
                ),
                _ => error,
            })
            .context("installing the boot loader")?;
        Ok(folder)
    }

    fn run(&self, script: &str, variables: &[String], stop: &Stop, tell: &mut dyn FnMut(&str)) -> Result<()> {
        Program::new("chroot")
            .arg(self.root)
            .args([
                "/usr/bin/env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C.UTF-8",
                "HOME=/root",
            ])
            .args(["DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=1"])
            .args(variables)
            .args(["/bin/sh", "-s"])
            .input(script)
            .contained()
            .run(stop, tell)
            .map(drop)
    }

    /// Unmounts what was mounted.
    pub(super) fn leave(mut self) -> Result<()> {
        while let Some(mounted) = self.mounts.pop() {
            mounted.unmount()?;
        }
        Ok(())
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Newest first: a vector drops its oldest first.
        while self.mounts.pop().is_some() {}
    }
}

/// A `/dev` with the disk and nothing else of this host. The link by UUID tells GRUB that Linux will find the root by
/// its UUID: see `10_linux`, which writes the device's name otherwise.
fn make_devices(dev: &Path, laid: &LaidOut) -> Result<()> {
    let make = |path: &Path, kind: SFlag, number: u64| {
        mknod(path, kind, Mode::from_bits_truncate(0o666), number)
            .with_context(|| format!("making {}", path.display()))
    };
    for (name, major, minor) in DEVICES {
        make(&dev.join(name), SFlag::S_IFCHR, makedev(*major, *minor))?;
    }
    let esp = laid.esp.as_ref().map(|(node, _)| node);
    for node in [&laid.disk, &laid.root].into_iter().chain(&laid.bios).chain(esp) {
        let metadata = std::fs::metadata(node).with_context(|| format!("looking at {}", node.display()))?;
        let name = node.file_name().with_context(|| format!("naming {}", node.display()))?;
        make(&dev.join(name), SFlag::S_IFBLK, metadata.rdev())?;
    }
    let name = laid.root.file_name().unwrap_or_default();
    let folder = dev.join("disk/by-uuid");
    std::fs::create_dir_all(&folder)
        .and_then(|()| symlink(Path::new("../..").join(name), folder.join(&laid.uuid)))
        .and_then(|()| symlink("/proc/self/fd", dev.join("fd")))
        .with_context(|| format!("naming the root below {}", folder.display()))
}
