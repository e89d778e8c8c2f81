//! What is done inside a fresh root, by its own programs, in the sandbox.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::Mounted;
use super::run::{Tell, in_root, perform};
use crate::disk::LaidOut;
use crate::error::{Failure, Kind};
use crate::plan::Arch;
use crate::sandbox::{Bind, Run};
use crate::stop::Stop;

const SETTLE: &str = include_str!("settle.sh");
const BOOT: &str = include_str!("boot.sh");

/// Where `boot.sh` puts what belongs in the EFI system partition.
const ESP: &str = "/run/bakehouse/esp";

/// Of what belongs there: as much as the partition holds, and no file of its own can fill the builder's memory.
const ESP_LIMITS: &str = "mode=755,size=124m,nr_inodes=4096";

/// A fresh root, to be worked on by its own programs.
#[derive(Debug)]
pub(super) struct Inside<'r> {
    pub(super) root: &'r Path,
    pub(super) laid: &'r LaidOut,
    /// The builder's folder for what is needed meanwhile.
    pub(super) work: &'r Path,
}

impl Inside<'_> {
    /// Settles a Debian.
    pub(super) fn settle(&self, boots: bool, stop: &Stop, tell: &mut Tell<'_>) -> Result<()> {
        let mut run = script(SETTLE);
        run.env.insert("BOOTS".to_owned(), if boots { "yes" } else { "" }.to_owned());
        perform(self.root, &run, "settle.sh", stop, tell).context("settling the root")
    }

    /// Installs GRUB with the root's own, and fills the EFI system partition.
    pub(super) fn boot_loader(&self, arch: Arch, stop: &Stop, tell: &mut Tell<'_>) -> Result<()> {
        let mut run = script(BOOT);
        let mut set = |name: &str, value: String| run.env.insert(name.to_owned(), value);
        set("ROOT_UUID", self.laid.uuid.clone());
        set("FILESYSTEM", self.laid.filesystem.as_str().to_owned());
        if self.laid.bios.is_some() {
            set("DISK", self.laid.disk.display().to_string());
        }
        if self.laid.esp.is_some() {
            set("ESP", ESP.to_owned());
            // The names of the target and of the removable path's file (UEFI specification, 3.5.1.1).
            let (target, file) = match arch {
                Arch::X86_64 => ("x86_64-efi", "BOOTX64.EFI"),
                Arch::Arm64 => ("arm64-efi", "BOOTAA64.EFI"),
            };
            set("EFI_TARGET", target.to_owned());
            set("EFI_FILE", file.to_owned());
        }
        // Of this host's devices the disk alone. The name by UUID tells GRUB that Linux will find the root by its
        // UUID: see `10_linux`, which writes the device's name otherwise.
        let esp = self.laid.esp.as_ref().map(|(node, _)| node);
        let nodes = [&self.laid.disk, &self.laid.root].into_iter().chain(&self.laid.bios).chain(esp);
        run.devices = nodes.cloned().collect();
        run.device_names =
            vec![(Path::new("/dev/disk/by-uuid").join(&self.laid.uuid), self.laid.root.clone())];
        let folder = self.work.join("esp");
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mounted = Mounted::new(&folder, None, "tmpfs", Some(ESP_LIMITS))?;
        run.binds = vec![Bind { source: folder.clone(), target: ESP.into(), writable: true }];
        perform(self.root, &run, "boot.sh", stop, tell)
            .map_err(|error| match crate::error::exit_status(&error) {
                1 => error.context(
                    Failure::new(Kind::Step, "the boot loader was not installed")
                        .hint("the bootstrap must bring a kernel, GRUB and udev, which GRUB asks about partitions; or say boot_loader = false"),
                ),
                _ => error,
            })
            .context("installing the boot loader")?;
        self.laid.fill_esp(&folder)?;
        mounted.unmount()
    }
}

fn script(text: &str) -> Run {
    in_root(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}
