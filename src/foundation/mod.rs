//! Foundation images: made of packages alone, with no image before them.
//!
//! One disk, one story: partition it, put a filesystem on it, bootstrap a Debian into that, settle what a vendor's
//! cloud image has settled, install the boot loader, and close it. What is mounted is mounted in this process's own
//! mount namespace, which the caller has made; whatever happens, it ends with the process.

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::disk::loopdev::LoopDevice;
use crate::error::{Failure, Kind};
use crate::plan::Arch;
use crate::program::Program;
use crate::stop::Stop;

mod bootstrap;
mod inside;
mod release;

pub use bootstrap::Sources;
pub use release::Release;

/// The partitions, as the vendors lay them out: a BIOS boot partition (number 14) for GRUB before the root (number
/// 1), which is last so that it can grow. Starts and sizes are in sectors of 512 bytes.
const LAYOUT: &str = "label: gpt\n\
    14 : start=2048, size=6144, type=21686148-6449-6E6F-744E-656564454649, name=bios\n\
    1 : start=8192, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root\n";

const BOOT_PARTITION: u32 = 14;
const ROOT_PARTITION: u32 = 1;

/// ext4 with the features that the boot loaders of all releases made here can read, whatever this host's own
/// defaults are: GRUB 2.06 refuses `metadata_csum_seed`.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
    large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

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
    /// Of which release.
    pub release: Release,
    /// Its architecture.
    pub arch: Arch,
    /// How much is on it.
    pub variant: Variant,
    /// The disk's size in bytes.
    pub size: u64,
    /// Further packages.
    pub include: Vec<String>,
    /// Where the packages come from.
    pub sources: Sources,
    /// The folder of this host's caches.
    pub cache: PathBuf,
}

impl Foundation {
    /// Makes it in an empty file. `tell` hears what is going on.
    ///
    /// # Errors
    /// [`Kind::Host`] when this host lacks something; an interruption; the failure of a program, with what it said.
    pub fn make(&self, file: &Path, stop: &Stop, tell: &mut dyn FnMut(&str)) -> Result<()> {
        self.possible()?;
        tell(&format!("partitioning {} MiB", self.size >> 20));
        self.partition(file, stop)?;
        let device = LoopDevice::attach(file)?;
        let made = self.fill(&device, stop, tell);
        // Whichever failed first is told; a device that does not come off after a failure is in the log.
        let detached = device.detach();
        made.and(detached)
    }

    fn possible(&self) -> Result<()> {
        if self.variant == Variant::Cloud && self.arch != Arch::X86_64 {
            let message =
                format!("a foundation that boots is made for x86_64 alone, not for {}", self.arch.as_str());
            return Err(Failure::new(Kind::Host, message)
                .hint("bring a vendor's image in with `bakehouse local import`")
                .into());
        }
        let least: u64 = 1 << 30;
        if self.size < least {
            let message = format!("{} bytes are too few for a foundation", self.size);
            return Err(Failure::new(Kind::Usage, message).hint("give it 1GiB or more").into());
        }
        Ok(())
    }

    fn partition(&self, file: &Path, stop: &Stop) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .open(file)
            .and_then(|file| file.set_len(self.size))
            .with_context(|| format!("sizing {}", file.display()))?;
        Program::new("sfdisk")
            .args(["--quiet", "--no-reread", "--no-tell-kernel"])
            .arg(file)
            .input(LAYOUT)
            .run(stop, &mut |_| {})
            .context("partitioning the disk")?;
        Ok(())
    }

    fn fill(&self, device: &LoopDevice, stop: &Stop, tell: &mut dyn FnMut(&str)) -> Result<()> {
        let nodes = device.partitions()?;
        let node = |number: u32| {
            let found = nodes.iter().find(|(of, _)| *of == number);
            found.map(|(_, path)| path.clone()).with_context(|| format!("finding partition {number}"))
        };
        let (root_node, boot_node) = (node(ROOT_PARTITION)?, node(BOOT_PARTITION)?);
        let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("making a UUID")?;
        let uuid = uuid.trim();
        Program::new("mkfs.ext4")
            .args(["-q", "-F", "-L", "root", "-O", FEATURES, "-U", uuid])
            .arg(&root_node)
            .run(stop, &mut |_| {})
            .context("making the root's filesystem")?;

        let folder = MountPoint::new()?;
        let root = folder.0.as_path();
        // Barriers off: this disk is worth nothing until it is whole, and one sync at the end makes it so.
        let mounted = Mounted::new(root, Some(&root_node), "ext4", Some("nobarrier"))?;
        self.bootstrap(root, stop, tell)?;
        tell("settling the root");
        let nodes = [device.path().to_owned(), root_node, boot_node];
        inside::settle(root, uuid, &nodes, self.variant == Variant::Cloud, stop, tell)?;
        // Blocks of files that were only there meanwhile go back to the host. A help, not a need.
        if let Err(error) = Program::new("fstrim").arg(root).run(stop, &mut |_| {}) {
            tracing::debug!("trimming the root: {error:#}");
        }
        stop.check()?;
        tell("closing the root");
        mounted.unmount()
    }
}

/// An empty folder to mount on. It is removed as one, never with what may still be mounted there.
#[derive(Debug)]
struct MountPoint(PathBuf);

impl MountPoint {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bakehouse-root-").tempdir();
        Ok(Self(folder.context("making a folder to mount on")?.keep()))
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::warn!("removing {}: {error}", self.0.display());
        }
    }
}

/// Something mounted, until it is dropped.
#[derive(Debug)]
struct Mounted {
    target: Option<PathBuf>,
}

impl Mounted {
    fn new(target: &Path, source: Option<&Path>, kind: &str, options: Option<&str>) -> Result<Self> {
        let flags = if kind == "bind" { MsFlags::MS_BIND } else { MsFlags::empty() };
        let kind_given = (kind != "bind").then_some(kind);
        mount(source.or(Some(Path::new("none"))), target, kind_given, flags, options)
            .with_context(|| format!("mounting {kind} on {}", target.display()))?;
        Ok(Self { target: Some(target.to_owned()) })
    }

    fn unmount(mut self) -> Result<()> {
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
fn folder_in(root: &Path, path: &str) -> Result<PathBuf> {
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

    #[test]
    fn what_cannot_be_made_is_told_before_anything_is() {
        let mut foundation = Foundation {
            release: Release::parse("debian-12").unwrap(),
            arch: Arch::Arm64,
            variant: Variant::Cloud,
            size: 4 << 30,
            include: Vec::new(),
            sources: Sources::Default,
            cache: PathBuf::new(),
        };
        assert!(foundation.possible().unwrap_err().to_string().contains("arm64"));
        foundation.variant = Variant::Tiny;
        foundation.possible().unwrap();
        foundation.size = 1 << 20;
        assert!(foundation.possible().is_err());
    }
}
