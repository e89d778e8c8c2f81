//! A blank disk made ready for a root: its partition table and its filesystems.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::survey::Filesystem;
use super::tool::Tool;
use super::{Device, Disk, probe, table};
use crate::error::{Failure, Kind};
use crate::plan::Arch;
use crate::recipe::{Firmware, RootFilesystem};

/// The numbers that the vendors' images give their partitions: the root is the first by number and the last by
/// place, so that it can grow.
const ROOT: u32 = 1;
const BIOS: u32 = 14;
const ESP: u32 = 15;

/// What a root from scratch is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The root's filesystem.
    pub filesystem: RootFilesystem,
    /// What boots it.
    pub firmware: Firmware,
    /// Whose root it is: the partition's type says so.
    pub arch: Arch,
}

/// A disk with empty filesystems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaidOut {
    /// The whole disk's node.
    pub disk: PathBuf,
    /// The root's node.
    pub root: PathBuf,
    /// The root's filesystem and its UUID.
    pub filesystem: RootFilesystem,
    /// The UUID of the root's filesystem.
    pub uuid: String,
    /// The BIOS boot partition's node, where there is one.
    pub bios: Option<PathBuf>,
    /// The EFI system partition's node and its filesystem's UUID, where there is one.
    pub esp: Option<(PathBuf, String)>,
}

impl Layout {
    /// The programs that making it needs.
    pub fn programs(&self) -> Vec<&'static str> {
        let uefi: &[&str] = if self.firmware.has_uefi() { &["mkfs.vfat", "mcopy"] } else { &[] };
        ["sfdisk", self.mkfs()].into_iter().chain(uefi.iter().copied()).collect()
    }

    fn mkfs(&self) -> &'static str {
        match self.filesystem {
            RootFilesystem::Ext4 => "mkfs.ext4",
            RootFilesystem::Xfs => "mkfs.xfs",
            RootFilesystem::Btrfs => "mkfs.btrfs",
        }
    }

    /// For sfdisk. The types are those of the UEFI specification, of GRUB and of the UAPI group's Discoverable
    /// Partitions Specification; the sizes those of Debian's cloud images.
    fn table(&self) -> String {
        let mut text = "label: gpt\n".to_owned();
        let mut start = 1;
        let mut add = |number: u32, mib: u32, type_id: &str, name: &str| {
            text.push_str(&format!(
                "{number} : start={start}MiB, size={mib}MiB, type={type_id}, name={name}\n"
            ));
            start += mib;
        };
        if self.firmware.has_bios() {
            add(BIOS, 3, "21686148-6449-6E6F-744E-656564454649", "bios");
        }
        if self.firmware.has_uefi() {
            add(ESP, 124, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "esp");
        }
        let root = match self.arch {
            Arch::X86_64 => "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
            Arch::Arm64 => "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
        };
        text.push_str(&format!("{ROOT} : start={start}MiB, type={root}, name=root\n"));
        text
    }
}

impl Disk {
    /// Partitions a blank disk and makes its filesystems.
    ///
    /// # Errors
    /// [`Kind::Disk`] where it is not blank, or too small; [`Kind::Host`] where a program is missing.
    pub fn lay_out(&mut self, layout: &Layout) -> Result<LaidOut> {
        let node = self.node().to_owned();
        self.lay_out_inner(layout).with_context(|| format!("laying out the blank disk {}", node.display()))
    }

    fn lay_out_inner(&mut self, layout: &Layout) -> Result<LaidOut> {
        let block = self.device.block().clone();
        if probe::probe(&block.node)? != probe::Content::default() {
            return Err(Failure::new(Kind::Disk, format!("{} is not blank", block.node.display()))
                .hint("what is on it is left alone; this should not be: please report it")
                .into());
        }
        Tool::new("sfdisk")
            .args(["--quiet", "--no-reread", "--no-tell-kernel"])
            .arg(&block.node)
            .input(layout.table())
            .run()?
            .success()
            .context("partitioning it")?;
        let added = table::tell_kernel(&block, &table::read_listed(&block)?)?;
        if let Device::Volume { added: known, .. } = &mut self.device {
            known.extend(added);
        }
        let (root, uuid) = (block.partition_node(ROOT), uuid()?);
        make_root(layout, &root, &uuid)?;
        let esp = layout.firmware.has_uefi().then(|| make_esp(&block.partition_node(ESP))).transpose()?;
        Ok(LaidOut {
            disk: block.node.clone(),
            root,
            filesystem: layout.filesystem,
            uuid,
            bios: layout.firmware.has_bios().then(|| block.partition_node(BIOS)),
            esp,
        })
    }
}

fn uuid() -> Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("making a UUID")?;
    Ok(uuid.trim().to_owned())
}

/// ext4 with the features that the boot loaders of all releases made here can read, whatever this host's own
/// defaults are: GRUB 2.06 refuses `metadata_csum_seed`.
const EXT4: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
    large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// What newer mkfs.xfs turn on by themselves, and GRUB 2.06 and kernels before 6.0 cannot read. One that does not
/// know an option does not turn it on either.
const XFS: [[&str; 2]; 3] = [["-i", "nrext64=0"], ["-i", "exchange=0"], ["-n", "parent=0"]];

fn xfs(node: &Path) -> Result<Vec<&'static str>> {
    let mut known = vec!["-q", "-f", "-L", "root"];
    for option in XFS {
        if Tool::new("mkfs.xfs").args(["-N", "-f"]).args(option).arg(node).run()?.code() == Some(0) {
            known.extend(option);
        }
    }
    Ok(known)
}

fn make_root(layout: &Layout, node: &Path, uuid: &str) -> Result<()> {
    let tool = Tool::new(layout.mkfs());
    let tool = match layout.filesystem {
        RootFilesystem::Ext4 => tool.args(["-q", "-F", "-L", "root", "-O", EXT4, "-U", uuid]),
        RootFilesystem::Xfs => tool.args(xfs(node)?).arg("-m").arg(format!("uuid={uuid}")),
        RootFilesystem::Btrfs => tool.args(["-q", "-f", "-L", "root", "-U", uuid]),
    };
    tool.arg(node).run()?.success().context("making the root's filesystem").map_err(|error| {
        match crate::error::failure_of(&error) {
            Some(_) => error,
            None => error.context(
                Failure::new(Kind::Disk, format!("no {} could be made", layout.filesystem.as_str()))
                    .hint("most often the disk is too small for it: raise [disk] size"),
            ),
        }
    })?;
    Ok(())
}

/// FAT has an id of four bytes, which Linux shows as `ABCD-1234`.
fn make_esp(node: &Path) -> Result<(PathBuf, String)> {
    let id = uuid()?.get(..8).context("making an id")?.to_ascii_uppercase();
    Tool::new("mkfs.vfat")
        .args(["-F", "32", "-n", "EFI", "-i", &id])
        .arg(node)
        .run()?
        .success()
        .context("making the EFI system partition's filesystem")?;
    let (high, low) = id.split_at(4);
    Ok((node.to_owned(), format!("{high}-{low}")))
}

impl From<RootFilesystem> for Filesystem {
    fn from(filesystem: RootFilesystem) -> Self {
        match filesystem {
            RootFilesystem::Ext4 => Self::Ext,
            RootFilesystem::Xfs => Self::Xfs,
            RootFilesystem::Btrfs => Self::Btrfs,
        }
    }
}

impl LaidOut {
    /// Puts a folder's content into the EFI system partition, where there is one. Without mounting it: not every
    /// kernel has vfat. Nothing may write to the folder meanwhile.
    ///
    /// # Errors
    /// [`Kind::Step`] where something in it is neither a file nor a folder; [`Kind::Host`] where mcopy is missing;
    /// that it does not fit.
    pub fn fill_esp(&self, from: &Path) -> Result<()> {
        let Some((node, _)) = &self.esp else { return Ok(()) };
        plain(from)?;
        let entries = std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", from.display()))?.path();
            Tool::new("mcopy")
                .args(["-s", "-Q", "-o", "-i"])
                .arg(node)
                .arg(path)
                .arg("::/")
                .run()?
                .success()
                .context("writing the EFI system partition")?;
        }
        super::close::flush(node)
    }
}

/// Refuses what mcopy would follow, or wait for: whoever filled the folder is not to say what of the builder is copied.
fn plain(folder: &Path) -> Result<()> {
    let reading = || format!("reading {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(reading)?);
        if kind.is_dir() {
            plain(&path)?;
        } else if !kind.is_file() {
            let message = format!("{} is neither a file nor a folder", path.display());
            return Err(Failure::new(Kind::Step, message)
                .hint("the EFI system partition holds files alone: see what put it there")
                .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_what_belongs_in_the_esp_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("EFI/BOOT");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("BOOTX64.EFI"), "MZ").unwrap();
        plain(folder.path()).unwrap();
        let laid = LaidOut {
            disk: "/dev/null".into(),
            root: "/dev/null".into(),
            filesystem: RootFilesystem::Ext4,
            uuid: "u".into(),
            bios: None,
            esp: Some((folder.path().join("never written"), "AB12-CD34".into())),
        };
        std::os::unix::fs::symlink("/etc/shadow", inner.join("GRUB.CFG")).unwrap();
        let error = laid.fill_esp(folder.path()).unwrap_err();
        assert!(crate::error::kind_of(&error) == Kind::Step, "{error:#}");
        assert!(error.to_string().contains("EFI/BOOT/GRUB.CFG is neither"), "{error:#}");
    }

    #[test]
    fn the_root_is_last_and_what_boots_it_before() {
        let table = |firmware, arch| Layout { filesystem: RootFilesystem::Xfs, firmware, arch }.table();
        insta::assert_snapshot!(table(Firmware::Both, Arch::X86_64), @r"
        label: gpt
        14 : start=1MiB, size=3MiB, type=21686148-6449-6E6F-744E-656564454649, name=bios
        15 : start=4MiB, size=124MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp
        1 : start=128MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root
        ");
        insta::assert_snapshot!(table(Firmware::Uefi, Arch::Arm64), @r"
        label: gpt
        15 : start=1MiB, size=124MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp
        1 : start=125MiB, type=B921B045-1DF0-41C3-AF44-4C6F280D3FAE, name=root
        ");
        assert!(table(Firmware::Bios, Arch::X86_64).contains("\n1 : start=4MiB"));
    }

    #[test]
    fn only_what_is_used_is_needed() {
        let layout =
            Layout { filesystem: RootFilesystem::Ext4, firmware: Firmware::Bios, arch: Arch::X86_64 };
        assert_eq!(layout.programs(), ["sfdisk", "mkfs.ext4"]);
        assert!(Layout { firmware: Firmware::Uefi, ..layout }.programs().contains(&"mcopy"));
    }
}
