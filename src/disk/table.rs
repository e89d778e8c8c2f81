//! Partition tables: read with sfdisk, and told to the kernel where it did not read them itself.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use serde::Deserialize;

use super::block::{self, Block};
use super::probe;
use super::tool::Tool;
use super::wait;
use crate::error::{Failure, Kind};
use crate::sys;

/// What kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// GUID partition table.
    Gpt,
    /// Master boot record.
    Mbr,
}

/// A partition table. Bytes throughout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its kind.
    pub label: Label,
    /// The size of the sectors that its numbers count in.
    pub sector: u64,
    /// The partitions, by number.
    pub partitions: Vec<Partition>,
}

/// A partition as its table describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// Where it starts.
    pub start: u64,
    /// How long it is.
    pub length: u64,
    /// GPT: the type's GUID, upper case. MBR: the type in hexadecimal, `83`.
    pub type_id: String,
    /// PARTUUID, lower case.
    pub uuid: Option<String>,
    /// PARTLABEL.
    pub name: Option<String>,
}

impl Partition {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// Whether it is an MBR's extended partition, the frame around those numbered from 5.
    pub fn is_extended(&self, label: Label) -> bool {
        label == Label::Mbr
            && matches!(self.type_id.to_ascii_lowercase().as_str(), "5" | "05" | "f" | "0f" | "85")
    }
}

#[derive(Deserialize)]
struct Document {
    partitiontable: Listed,
}

#[derive(Deserialize)]
struct Listed {
    label: String,
    id: Option<String>,
    device: String,
    unit: String,
    sectorsize: Option<u64>,
    #[serde(default)]
    partitions: Vec<ListedPartition>,
}

#[derive(Deserialize)]
struct ListedPartition {
    node: String,
    start: u64,
    size: u64,
    #[serde(rename = "type")]
    type_id: String,
    uuid: Option<String>,
    name: Option<String>,
}

/// Reads a device's table; `None` where there is none.
pub(super) fn read(block: &Block) -> Result<Option<Table>> {
    let content = probe::probe(&block.node)?;
    if content.table.is_none() || (content.kind.is_some() && !content.ambivalent) {
        return Ok(None);
    }
    read_listed(block).map(Some)
}

/// Reads the table of a device that is known to have one.
pub(super) fn read_listed(block: &Block) -> Result<Table> {
    let node = block.node.display();
    let text = Tool::new("sfdisk")
        .arg("--json")
        .arg(&block.node)
        .run()?
        .success()
        .with_context(|| format!("reading the partition table of {node}"))
        .map_err(|error| match crate::error::failure_of(&error) {
            Some(_) => error,
            None => error.context(Failure::new(Kind::Disk, format!("{node} has a damaged partition table"))),
        })?;
    parse(&text).with_context(|| format!("reading the partition table of {node}"))
}

/// Reads the output of `sfdisk --json`.
///
/// # Errors
/// It is not what sfdisk prints, or the table is of a kind other than GPT and MBR.
pub fn parse(text: &str) -> Result<Table> {
    let listed =
        serde_json::from_str::<Document>(text).context("reading what sfdisk printed")?.partitiontable;
    let label = match listed.label.as_str() {
        "gpt" => Label::Gpt,
        "dos" => Label::Mbr,
        other => {
            let failure = Failure::new(Kind::Disk, format!("the partition table is of the kind {other}"));
            return Err(failure.hint("use a base with a GPT or MBR table, or none").into());
        }
    };
    anyhow::ensure!(listed.unit == "sectors", "sfdisk counts in {}, not in sectors", listed.unit);
    let sector = listed.sectorsize.unwrap_or(512);
    anyhow::ensure!((512..=65536).contains(&sector), "sectors of {sector} bytes are too odd to be true");
    let id = listed.id.unwrap_or_default();
    let mut partitions = Vec::new();
    for entry in listed.partitions {
        let number = number_of(&listed.device, &entry.node)
            .with_context(|| format!("{} is not a partition of {}", entry.node, listed.device))?;
        let bytes = |sectors: u64| sectors.checked_mul(sector).context("a partition is too large to be true");
        let uuid = match label {
            Label::Gpt => entry.uuid.map(|uuid| uuid.to_ascii_lowercase()),
            // The kernel's and udev's PARTUUID of an MBR partition: the disk's id and the number.
            Label::Mbr => u32::from_str_radix(id.trim_start_matches("0x"), 16)
                .ok()
                .map(|disk| format!("{disk:08x}-{number:02x}")),
        };
        partitions.push(Partition {
            number,
            start: bytes(entry.start)?,
            length: bytes(entry.size)?,
            type_id: entry.type_id.to_ascii_uppercase(),
            uuid,
            name: entry.name.filter(|name| !name.is_empty()),
        });
    }
    partitions.sort_by_key(|partition| partition.number);
    Ok(Table { label, sector, partitions })
}

fn number_of(device: &str, node: &str) -> Option<u32> {
    let rest = node.strip_prefix(device)?;
    rest.strip_prefix('p').unwrap_or(rest).parse().ok().filter(|number| *number > 0)
}

/// Makes the kernel know exactly the partitions of the table, and waits for their nodes. Tells nothing where
/// it knows them already, which is the rule on hosts whose kernel and udev read tables by themselves. Gives
/// the numbers of those that were added.
pub(super) fn tell_kernel(block: &Block, table: &Table) -> Result<Vec<u32>> {
    let disk = block.open()?;
    let size = block.size()?;
    for partition in &table.partitions {
        if partition.end() > size {
            let message =
                format!("partition {} ends behind the end of {}", partition.number, block.node.display());
            return Err(Failure::new(Kind::Disk, message).hint("the base's image was cut short").into());
        }
    }
    let mut added = Vec::new();
    // udev may be reading the table at the same moment: what fails as busy is looked at anew.
    let settled = wait::until(wait::SETTLE, || {
        let known = block.known()?;
        for stale in
            known.iter().filter(|k| !table.partitions.iter().any(|p| p.number == k.number && p.length > 0))
        {
            tracing::debug!("{} is not in the table", block.partition_node(stale.number).display());
            if !done(sys::partition_delete(disk.as_fd(), stale.number))? {
                return Ok(None);
            }
        }
        for partition in table.partitions.iter().filter(|partition| partition.length > 0) {
            let (start, length) = (partition.start, kernel_length(partition, table.label));
            let same = known.iter().find(|known| known.number == partition.number);
            if let Some(known) = same.filter(|known| known.start == start) {
                // The length that the kernel shows of the frame around logical partitions differs between versions.
                if known.length == length || partition.is_extended(table.label) {
                    continue;
                }
                if !done(sys::partition_resize(disk.as_fd(), partition.number, start, length))? {
                    return Ok(None);
                }
                continue;
            }
            if same.is_some() && !done(sys::partition_delete(disk.as_fd(), partition.number))? {
                return Ok(None);
            }
            if !done(sys::partition_add(disk.as_fd(), partition.number, start, length))? {
                return Ok(None);
            }
            added.push(partition.number);
        }
        Ok(Some(()))
    })
    .with_context(|| format!("telling the kernel of the partitions of {}", block.node.display()))?;
    if settled.is_none() {
        let message = format!("the kernel does not take the partition table of {}", block.node.display());
        return Err(Failure::new(Kind::Disk, message)
            .hint("two partitions of the table overlap, or one of them is in use")
            .into());
    }
    for partition in table.partitions.iter().filter(|partition| partition.length > 0) {
        block::node_appears(&block.partition_node(partition.number))?;
    }
    Ok(added)
}

/// As the kernel does: of an extended partition only its first two sectors can be opened.
fn kernel_length(partition: &Partition, label: Label) -> u64 {
    if partition.is_extended(label) { partition.length.min(1024) } else { partition.length }
}

fn done(result: nix::Result<()>) -> nix::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::EBUSY | Errno::ENXIO) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GPT: &str = include_str!("fixtures/sfdisk-gpt-ubuntu.json");
    const MBR: &str = include_str!("fixtures/sfdisk-mbr.json");
    const LOGICAL: &str = include_str!("fixtures/sfdisk-mbr-logical.json");

    #[test]
    fn reads_a_gpt() {
        let table = parse(GPT).unwrap();
        assert_eq!((table.label, table.sector), (Label::Gpt, 512));
        let numbers: Vec<u32> = table.partitions.iter().map(|partition| partition.number).collect();
        assert_eq!(numbers, [1, 14, 15]);
        let root = &table.partitions[0];
        assert_eq!((root.start, root.length), (26624 * 512, 102_400 * 512));
        assert_eq!(root.type_id, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709");
        assert_eq!(root.uuid.as_deref(), Some("03eacd00-457e-f641-aa34-18c7337d06d5"));
        assert_eq!(root.name.as_deref(), Some("root x"));
    }

    #[test]
    fn reads_an_mbr() {
        let table = parse(MBR).unwrap();
        assert_eq!(table.label, Label::Mbr);
        assert_eq!(table.partitions[1].uuid.as_deref(), Some("ee9b7a91-02"));
        assert_eq!(table.partitions[1].type_id, "83");
    }

    #[test]
    fn an_extended_partition_is_only_a_frame() {
        let table = parse(LOGICAL).unwrap();
        let frame = &table.partitions[1];
        assert!(frame.is_extended(table.label));
        assert_eq!(kernel_length(frame, table.label), 1024);
        assert_eq!(table.partitions.last().unwrap().number, 5);
    }

    #[test]
    fn other_tables_are_named() {
        let error = parse(&MBR.replace("\"dos\"", "\"sun\"")).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Disk);
        assert!(error.to_string().contains("sun"), "{error:#}");
    }

    #[test]
    fn numbers_are_what_follows_the_device() {
        assert_eq!(number_of("/dev/nvme1n1", "/dev/nvme1n1p15"), Some(15));
        assert_eq!(number_of("/dev/xvdf", "/dev/xvdf1"), Some(1));
        assert_eq!(number_of("/dev/xvdf", "/dev/xvdg1"), None);
        assert_eq!(number_of("/dev/xvdf", "/dev/xvdf"), None);
        assert_eq!(number_of("/dev/xvdf", "/dev/xvdf0"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer_or_an_error(text in "\\PC*") {
            let _result = parse(&text);
        }

        #[test]
        fn any_numbers_are_an_answer_or_an_error(start: u64, size: u64, sector: u64) {
            let text = MBR.replace("18432", &start.to_string())
                .replace("112640", &size.to_string())
                .replace("\"sectorsize\": 512", &format!("\"sectorsize\": {sector}"));
            if let Ok(table) = parse(&text) {
                prop_assert!(table.partitions.iter().all(|p| p.end() >= p.start));
            }
        }
    }
}
