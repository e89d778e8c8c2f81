//! Foundations: roots made of packages alone, or by a script, with no image before them.
//!
//! One disk, one story: lay it out, bootstrap a system into its root, settle what a vendor's cloud image has settled,
//! install the boot loader, and close it. What is mounted is mounted in this process's own mount namespace, which the
//! caller has made; whatever happens, it ends with the process, and so does what is run meanwhile.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::disk::{Disk, LaidOut, Layout};
use crate::error::{Failure, Kind};
use crate::plan::{Arch, Locator};
use crate::program::{Program, find};
use crate::recipe::RootFilesystem;
use crate::stop::Stop;

mod bootstrap;
mod fstab;
mod inside;
mod mounted;
mod place;
mod release;
mod run;
mod script;

pub use bootstrap::{Debian, Sources};
pub use place::sweep;
pub use release::Release;
pub use script::Script;

use inside::Inside;
use mounted::{Mounted, folder_in};
use place::Place;
use run::Tell;

/// How much is on a foundation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    /// Boots: kernel, boot loader, systemd with network by DHCP and name resolution, a console on ttyS0
    Cloud,
    /// Does not boot: what every Debian has, and apt
    Tiny,
}

/// A foundation to be made.
#[derive(Debug, Clone)]
pub struct Foundation {
    /// What fills it.
    pub content: Content,
    /// What it is put on.
    pub layout: Layout,
    /// How much is on it: of a script's, whether a boot loader is installed.
    pub variant: Variant,
}

/// What fills a root.
#[derive(Debug, Clone)]
pub enum Content {
    /// Debian, by mmdebstrap.
    Debian(Debian),
    /// Whatever a program of this host makes of it.
    Script(Script),
}

impl Foundation {
    /// Makes it in an empty file, `size` bytes large. In `work` it has a folder of its own meanwhile; one that a
    /// killed maker left is for [`sweep`]. `tell` hears what is going on.
    ///
    /// # Errors
    /// [`Kind::Host`] when this host lacks something; an interruption; the failure of a program, with what it said.
    pub fn make(&self, file: &Path, size: u64, work: &Path, stop: &Stop, tell: &mut Tell<'_>) -> Result<()> {
        self.possible()?;
        let least: u64 = 1 << 30;
        if size < least {
            let message = format!("{size} bytes are too few for a foundation");
            return Err(Failure::new(Kind::Usage, message).hint("give it 1GiB or more").into());
        }
        tell(&format!("partitioning {} MiB", size >> 20));
        OpenOptions::new()
            .write(true)
            .open(file)
            .and_then(|file| file.set_len(size))
            .with_context(|| format!("sizing {}", file.display()))?;
        let mut disk = Disk::open(&Locator::File(file.to_owned()), Duration::ZERO)?;
        let place = Place::new(work)?;
        let made = self.lay(&mut disk, &place.root(), &place.work(), stop, tell);
        // Whichever failed first is told; a device that does not come off after a failure is in the log.
        let released = disk.release();
        made.and(released)
    }

    /// What fills it, in a few words.
    pub fn name(&self) -> String {
        match &self.content {
            Content::Debian(debian) => format!("{} ({})", debian.release.name, debian.release.suite),
            Content::Script(script) => script.path.display().to_string(),
        }
    }

    /// Whether this host can make it, asked before anything is made.
    ///
    /// # Errors
    /// [`Kind::Host`] with what is missing.
    pub fn possible(&self) -> Result<()> {
        let arm_by_bios = self.layout.arch == Arch::Arm64 && self.layout.firmware.has_bios();
        if self.variant == Variant::Cloud && arm_by_bios {
            return Err(Failure::new(Kind::Usage, "machines of arm64 have no BIOS")
                .hint("let UEFI alone boot it: firmware = \"uefi\", or --firmware uefi")
                .into());
        }
        let mut programs = self.layout.programs();
        match &self.content {
            Content::Debian(_) => programs.push("mmdebstrap"),
            Content::Script(script) => script.possible()?,
        }
        let missing: Vec<_> =
            programs.into_iter().filter(|program| find(program.as_ref()).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message =
            format!("making a root from scratch needs {}, which this host lacks", missing.join(", "));
        Err(Failure::new(Kind::Host, message)
            .hint("`bakehouse doctor` names the packages to install; firmware = \"bios\" needs neither mkfs.vfat nor mcopy")
            .into())
    }

    /// Makes it on a blank disk. The root is mounted on `target` meanwhile; `work` is for what is needed meanwhile.
    ///
    /// # Errors
    /// As [`Foundation::make`].
    pub fn lay(
        &self,
        disk: &mut Disk,
        target: &Path,
        work: &Path,
        stop: &Stop,
        tell: &mut Tell<'_>,
    ) -> Result<()> {
        let laid = disk.lay_out(&self.layout)?;
        stop.check()?;
        // Barriers off, where that is known: this disk is worth nothing until it is whole, and one sync at the
        // end makes it so.
        let options = (laid.filesystem == RootFilesystem::Ext4).then_some("nobarrier");
        let mounted = Mounted::new(target, Some(&laid.root), laid.filesystem.as_str(), options)?;
        self.fill(&laid, target, work, stop, tell)?;
        // Blocks of files that were only there meanwhile go back to the host. A help, not a need.
        if let Err(error) = Program::new("fstrim").arg(target).run(stop, &mut |_| {}) {
            tracing::debug!("trimming the root: {error:#}");
        }
        stop.check()?;
        tell("closing the root");
        mounted.unmount()
    }

    fn fill(&self, laid: &LaidOut, root: &Path, work: &Path, stop: &Stop, tell: &mut Tell<'_>) -> Result<()> {
        let boots = self.variant == Variant::Cloud;
        match &self.content {
            Content::Debian(debian) => {
                let packages = self.packages(debian);
                debian.bootstrap(self.layout.arch, &packages, root, work, stop, tell)?;
            }
            Content::Script(script) => script.run(&self.layout, laid, root, work, stop, tell)?,
        }
        fstab::write(root, laid)?;
        let is_debian = matches!(self.content, Content::Debian(_));
        if !is_debian && !boots {
            return Ok(());
        }
        tell("settling the root");
        let inside = Inside { root, laid, work };
        if is_debian {
            inside.settle(boots, stop, tell)?;
        }
        if boots {
            inside.boot_loader(self.layout.arch, stop, tell)?;
        }
        Ok(())
    }

    /// The packages of a Debian foundation.
    fn packages(&self, debian: &Debian) -> Vec<String> {
        let mut packages = vec!["ca-certificates"];
        if self.variant == Variant::Cloud {
            packages.extend(bootstrap::CLOUD);
            let (kernel, efi) = match self.layout.arch {
                Arch::X86_64 => ("linux-image-cloud-amd64", "grub-efi-amd64-bin"),
                Arch::Arm64 => ("linux-image-cloud-arm64", "grub-efi-arm64-bin"),
            };
            packages.push(kernel);
            // grub-pc and grub-efi-amd64 exclude each other; the files of either do not.
            packages.push(if self.layout.firmware.has_bios() { "grub-pc" } else { "grub2-common" });
            packages.extend(self.layout.firmware.has_uefi().then_some(efi));
            packages.push(match self.layout.filesystem {
                RootFilesystem::Ext4 => "e2fsprogs",
                RootFilesystem::Xfs => "xfsprogs",
                RootFilesystem::Btrfs => "btrfs-progs",
            });
        }
        packages.into_iter().map(str::to_owned).chain(debian.include.iter().cloned()).collect()
    }
}

/// A file of a new root that the builder writes: made anew, never through a link.
fn write_new(root: &Path, folder: &str, name: &str, text: &str) -> Result<()> {
    let path: PathBuf = folder_in(root, folder)?.join(name);
    let writing = || format!("writing {}", path.display());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(writing);
        }
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).with_context(writing)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(writing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Firmware;

    fn foundation(variant: Variant, arch: Arch, firmware: Firmware) -> Foundation {
        let debian = Debian {
            release: Release::parse("debian-12").unwrap(),
            include: vec!["less".to_owned()],
            sources: Sources::Default,
            cache: PathBuf::new(),
        };
        let layout = Layout { filesystem: RootFilesystem::Xfs, firmware, arch };
        Foundation { content: Content::Debian(debian), layout, variant }
    }

    #[test]
    fn what_cannot_be_made_is_told_before_anything_is() {
        let error = foundation(Variant::Cloud, Arch::Arm64, Firmware::Both).possible().unwrap_err();
        assert!(error.to_string().contains("arm64"), "{error:#}");
        let small = foundation(Variant::Tiny, Arch::Arm64, Firmware::Bios);
        let error = small
            .make(Path::new("/nowhere"), 1 << 20, Path::new("/nowhere"), &Stop::default(), &mut |_| {})
            .unwrap_err();
        assert!(matches!(crate::error::kind_of(&error), Kind::Usage | Kind::Host), "{error:#}");
    }

    #[test]
    fn packages_are_those_of_firmware_filesystem_and_architecture() {
        let packages = |variant, arch, firmware| {
            let foundation = foundation(variant, arch, firmware);
            let Content::Debian(debian) = &foundation.content else { panic!() };
            foundation.packages(debian).join(" ")
        };
        assert_eq!(packages(Variant::Tiny, Arch::X86_64, Firmware::Both), "ca-certificates less");
        let both = packages(Variant::Cloud, Arch::X86_64, Firmware::Both);
        assert!(both.ends_with("linux-image-cloud-amd64 grub-pc grub-efi-amd64-bin xfsprogs less"), "{both}");
        let arm = packages(Variant::Cloud, Arch::Arm64, Firmware::Uefi);
        assert!(arm.contains("linux-image-cloud-arm64 grub2-common grub-efi-arm64-bin"), "{arm}");
    }
}
