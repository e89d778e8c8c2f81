//! What is on a disk: its table, its partitions, and what each holds.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;

use super::block::Block;
use super::probe::{self, Content};
use super::table::{self, Label, Table};
use crate::error::{Failure, Kind};

/// A place where a filesystem may be: a partition, or the whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// The partition's number; `None` for the whole disk and for a logical volume.
    pub number: Option<u32>,
    /// The logical volume, `rhel/root`, where it is one.
    pub volume: Option<String>,
    /// Its node in /dev.
    pub node: PathBuf,
    /// Size in bytes.
    pub length: u64,
    /// The partition's type: a GUID in upper case, or an MBR's number in hexadecimal.
    pub type_id: Option<String>,
    /// PARTUUID, lower case.
    pub part_uuid: Option<String>,
    /// PARTLABEL.
    pub part_label: Option<String>,
    /// What it holds.
    pub content: Content,
}

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The partition table, where there is one.
    pub table: Option<Table>,
    /// The partitions, by number; or the whole disk, where a filesystem fills it without a table. Then the logical
    /// volumes on them, once they were opened.
    pub areas: Vec<Area>,
}

impl Area {
    /// The kind of its filesystem, where it has one that can be a root.
    pub fn filesystem(&self) -> Option<Filesystem> {
        Filesystem::of(self.content.kind.as_deref()?)
    }

    /// The name that device-mapper's rules give a logical volume: `/dev/mapper/vg-lv`, the dashes of both doubled.
    pub fn mapper_name(&self) -> Option<PathBuf> {
        let (group, volume) = self.volume.as_ref()?.split_once('/')?;
        let name = format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"));
        Some(std::path::Path::new("/dev/mapper").join(name))
    }

    /// `partition 2`, `logical volume rhel/root`, `the whole disk`.
    pub fn place(&self) -> String {
        if let Some(name) = &self.volume {
            return format!("logical volume {name}");
        }
        self.number.map_or_else(|| "the whole disk".to_owned(), |number| format!("partition {number}"))
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.place())?;
        match self.content.kind.as_deref() {
            _ if self.content.ambivalent => f.write_str("signatures of more than one filesystem")?,
            Some("LVM2_member") => f.write_str("LVM physical volume")?,
            Some("crypto_LUKS") => f.write_str("LUKS, encrypted")?,
            Some("linux_raid_member") => f.write_str("member of a software RAID")?,
            Some(kind) => f.write_str(kind)?,
            None => f.write_str("no filesystem")?,
        }
        if let Some(label) = &self.content.label {
            write!(f, ", label {label}")?;
        }
        write!(f, ", {} MiB)", self.length >> 20)
    }
}

/// The filesystems that a root may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// ext2, ext3 and ext4: one driver serves them all.
    Ext,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl Filesystem {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "ext2" | "ext3" | "ext4" => Some(Self::Ext),
            "xfs" => Some(Self::Xfs),
            "btrfs" => Some(Self::Btrfs),
            _ => None,
        }
    }

    /// The name that mount(2) takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// Looks at a disk. The kernel is told of partitions that it did not find by itself; their numbers come second.
pub(super) fn survey(block: &Block) -> Result<(Survey, Vec<u32>)> {
    let content = probe::probe(&block.node)?;
    if content.ambivalent {
        let message = format!("{} carries the signatures of more than one thing", block.node.display());
        return Err(Failure::new(Kind::Disk, message)
            .hint("see them with wipefs, and erase the wrong one from the base")
            .into());
    }
    if content.table.is_some() {
        let table = table::read_listed(block)?;
        // A boot sector left in front of a filesystem that fills the disk looks like an empty MBR.
        if !table.partitions.is_empty() || content.kind.is_none() {
            let added = table::tell_kernel(block, &table)?;
            let areas = areas(block, &table)?;
            return Ok((Survey { table: Some(table), areas }, added));
        }
    }
    let mut areas = Vec::new();
    if content.kind.is_some() {
        areas.push(Area {
            number: None,
            volume: None,
            node: block.node.clone(),
            length: block.size()?,
            type_id: None,
            part_uuid: None,
            part_label: None,
            content,
        });
    }
    Ok((Survey { table: None, areas }, Vec::new()))
}

fn areas(block: &Block, table: &Table) -> Result<Vec<Area>> {
    table
        .partitions
        .iter()
        .filter(|partition| partition.length > 0 && !partition.is_extended(table.label))
        .map(|partition| {
            let node = block.partition_node(partition.number);
            // A few tools put an MBR's type where a GUID is expected; nothing here depends on it.
            let type_id = Some(partition.type_id.clone());
            Ok(Area {
                number: Some(partition.number),
                volume: None,
                content: probe::probe(&node)?,
                node,
                length: partition.length,
                type_id,
                part_uuid: partition.uuid.clone(),
                part_label: if table.label == Label::Gpt { partition.name.clone() } else { None },
            })
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An area for tests of what is made from surveys.
    pub(in crate::disk) fn area(number: u32, kind: &str) -> Area {
        Area {
            number: (number > 0).then_some(number),
            volume: None,
            node: format!("/dev/loop0p{number}").into(),
            length: 64 << 20,
            type_id: Some("0FC63DAF-8483-4772-8E79-3D69D8477DE4".into()),
            part_uuid: Some(format!("ee9b7a91-{number:02x}")),
            part_label: None,
            content: Content { kind: (!kind.is_empty()).then(|| kind.to_owned()), ..Content::default() },
        }
    }

    #[test]
    fn areas_are_named_for_people() {
        assert_eq!(area(2, "LVM2_member").to_string(), "partition 2 (LVM physical volume, 64 MiB)");
        assert_eq!(area(3, "crypto_LUKS").to_string(), "partition 3 (LUKS, encrypted, 64 MiB)");
        assert_eq!(area(14, "").to_string(), "partition 14 (no filesystem, 64 MiB)");
        let mut whole = area(0, "ext4");
        whole.content.label = Some("root".into());
        assert_eq!(whole.to_string(), "the whole disk (ext4, label root, 64 MiB)");
    }
}
