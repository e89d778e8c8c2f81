//! Growing what lies on a disk that is larger than its table and its filesystem think.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::block::Block;
use super::check;
use super::superblock;
use super::survey::{Area, Filesystem};
use super::table::{self, Label, Table};
use super::tool::Tool;
use crate::error::{Failure, Kind};

/// Partitions end on multiples of this, and less is not worth growing for.
const ALIGNMENT: u64 = 1 << 20;
/// Unused space at the disk's end that is more than what rounding up to whole GiB leaves.
const WORTH_A_COMPLAINT: u64 = 1 << 30;

/// What growing a partition comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// It ends where it can end.
    Filled,
    /// It can have this length in bytes.
    Length(u64),
    /// The disk has much unused space at its end, but another partition lies between.
    Blocked {
        /// That partition.
        by: u32,
        /// The unused bytes.
        unused: u64,
    },
}

/// How far a partition can grow on a disk of `size` bytes. `None` where the table has no such partition.
pub fn room(table: &Table, number: u32, size: u64) -> Option<Room> {
    let own = table.partitions.iter().find(|partition| partition.number == number)?;
    let usable = match table.label {
        // The backup table: 128 entries of 128 bytes, and its header.
        Label::Gpt => {
            let entries = (128_u64 * 128).div_ceil(table.sector.max(1));
            size.saturating_sub(entries.saturating_add(1).saturating_mul(table.sector))
        }
        Label::Mbr => size.min(table.sector.saturating_mul(u64::from(u32::MAX))),
    };
    let others = table.partitions.iter().filter(|other| other.number != number && other.length > 0);
    let frame = table.partitions.iter().find(|other| {
        other.is_extended(table.label)
            && other.number != number
            && other.start < own.start
            && own.end() <= other.end()
    });
    let behind = others
        .filter(|other| Some(other.number) != frame.map(|frame| frame.number))
        .filter(|other| other.start >= own.end())
        .min_by_key(|other| other.start);
    let last = table.partitions.iter().map(table::Partition::end).max().unwrap_or(0);
    let unused = usable.saturating_sub(last);
    if let Some(blocker) = behind.or(frame)
        && unused >= WORTH_A_COMPLAINT
    {
        return Some(Room::Blocked { by: blocker.number, unused });
    }
    let limit =
        behind.map_or(usable, |behind| behind.start).min(frame.map_or(u64::MAX, table::Partition::end));
    let end = limit - limit % ALIGNMENT;
    let gain = end.saturating_sub(own.end());
    Some(if gain < ALIGNMENT { Room::Filled } else { Room::Length(end - own.start) })
}

/// Grows the root's partition into the free space behind it; nothing on it may be mounted. Its start, type,
/// uuid, name and flags stay; a GPT's backup moves to the disk's end. Tells whether it grew.
pub(super) fn partition(block: &Block, table: &Table, area: &Area) -> Result<bool> {
    let Some(number) = area.number else { return Ok(false) };
    let node = block.node.display();
    let length = match room(table, number, block.size()?) {
        None | Some(Room::Filled) => return Ok(false),
        Some(Room::Length(length)) => length,
        Some(Room::Blocked { by, unused }) => {
            let message = format!(
                "the root cannot grow into the {} MiB at the end of {node}: partition {by} lies between",
                unused >> 20
            );
            return Err(Failure::new(Kind::Disk, message)
                .hint("leave [disk] size out, or use a base whose root is the last partition")
                .into());
        }
    };
    let before = table.partitions.iter().find(|partition| partition.number == number);
    let Some(before) = before else { return Ok(false) };
    tracing::info!("growing partition {number} from {} to {} MiB", before.length >> 20, length >> 20);
    Tool::new("sfdisk")
        .args([
            "--quiet",
            "--no-reread",
            "--no-tell-kernel",
            "--wipe",
            "never",
            "--wipe-partitions",
            "never",
            "-N",
        ])
        .arg(number.to_string())
        .arg(&block.node)
        .input(format!("start={}, size={}\n", before.start / table.sector, length / table.sector))
        .run()?
        .success()
        .with_context(|| format!("growing partition {number} of {node}"))?;
    let after = table::read_listed(block)?;
    let mut wanted = table.clone();
    for partition in &mut wanted.partitions {
        if partition.number == number {
            partition.length = length;
        }
    }
    if after != wanted {
        let message = format!("sfdisk did not leave the partition table of {node} as it should be");
        return Err(Failure::new(Kind::Disk, message)
            .hint("grow the base by hand, and leave [disk] size out")
            .into());
    }
    table::tell_kernel(block, &after)?;
    Ok(true)
}

/// Whether a filesystem is to be grown before it is mounted. All three grow while mounted, ext4 fastest so: but
/// then the kernel asks for CAP_SYS_RESOURCE, which containers rarely have.
pub(super) fn unmounted(filesystem: Filesystem) -> bool {
    filesystem == Filesystem::Ext && !has_capability(CAP_SYS_RESOURCE)
}

/// linux/capability.h.
const CAP_SYS_RESOURCE: u32 = 24;

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    // Where it cannot be told, the kernel's own answer comes soon enough.
    effective(&status).is_none_or(|mask| mask & (1 << number) != 0)
}

fn effective(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Grows a filesystem to its partition's `size` in bytes: at the folder where it is `mounted`, or else on its
/// device (ext4 only). Tells whether it grew.
pub(super) fn filesystem(
    area: &Area,
    filesystem: Filesystem,
    size: u64,
    mounted: Option<&Path>,
) -> Result<bool> {
    let has = superblock::read(&area.node, filesystem)?.size;
    if size.saturating_sub(has) < ALIGNMENT {
        return Ok(false);
    }
    tracing::info!("growing the {} filesystem from {} to {} MiB", filesystem.name(), has >> 20, size >> 20);
    let tool = match (filesystem, mounted) {
        (Filesystem::Ext, mounted) => {
            if mounted.is_none() {
                check::thoroughly(area)?;
            }
            Tool::new("resize2fs").arg(&area.node)
        }
        (Filesystem::Xfs, Some(mounted)) => Tool::new("xfs_growfs").arg("-d").arg(mounted),
        (Filesystem::Btrfs, Some(mounted)) => {
            Tool::new("btrfs").args(["filesystem", "resize", "max"]).arg(mounted)
        }
        (Filesystem::Xfs | Filesystem::Btrfs, None) => {
            bail!("{} grows only while mounted", filesystem.name())
        }
    };
    tool.run()?.success().with_context(|| format!("growing the filesystem of {}", area.place()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::table::Partition;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn table(label: Label, partitions: &[(u32, u64, u64, &str)]) -> Table {
        let partitions = partitions
            .iter()
            .map(|(number, start, length, type_id)| Partition {
                number: *number,
                start: start * MIB,
                length: length * MIB,
                type_id: (*type_id).to_owned(),
                uuid: None,
                name: None,
            })
            .collect();
        Table { label, sector: 512, partitions }
    }

    #[test]
    fn the_last_partition_grows_to_the_end() {
        let ubuntu = table(Label::Gpt, &[(1, 13, 50, "x"), (14, 1, 4, "x"), (15, 5, 8, "x")]);
        assert_eq!(room(&ubuntu, 1, 128 * MIB), Some(Room::Length((127 - 13) * MIB)));
        assert_eq!(room(&ubuntu, 1, 64 * MIB), Some(Room::Filled));
        assert_eq!(room(&ubuntu, 2, 64 * MIB), None);
        let mbr = table(Label::Mbr, &[(1, 1, 50, "83")]);
        assert_eq!(room(&mbr, 1, 128 * MIB), Some(Room::Length(127 * MIB)));
    }

    #[test]
    fn a_partition_behind_it_is_in_the_way() {
        let swap_last = table(Label::Gpt, &[(1, 1, 50, "x"), (2, 60, 4, "x")]);
        assert_eq!(room(&swap_last, 1, 65 * MIB), Some(Room::Length(59 * MIB)));
        assert!(matches!(room(&swap_last, 1, 4096 * MIB), Some(Room::Blocked { by: 2, .. })));
    }

    #[test]
    fn a_logical_partition_ends_with_its_frame() {
        let logical = table(Label::Mbr, &[(1, 1, 8, "83"), (2, 9, 55, "5"), (5, 10, 16, "83")]);
        assert_eq!(room(&logical, 5, 64 * MIB), Some(Room::Length(54 * MIB)));
        assert!(matches!(room(&logical, 5, 4096 * MIB), Some(Room::Blocked { by: 2, .. })));
    }

    #[test]
    fn an_mbr_ends_at_two_tebibytes() {
        let mbr = table(Label::Mbr, &[(1, 1, 50, "83")]);
        let Some(Room::Length(length)) = room(&mbr, 1, 4 << 40) else { panic!("it has room") };
        assert!(length < 2 << 40);
    }

    #[test]
    fn capabilities_are_read() {
        assert_eq!(effective("Name:\tx\nCapPrm:\t0\nCapEff:\t000001fffeffffff\n"), Some(0x1ff_feff_ffff));
        assert_eq!(effective("CapEff:\tx\n"), None);
    }

    proptest! {
        #[test]
        fn any_table_has_an_answer(
            sector in 0_u64..8192, size: u64, starts in prop::collection::vec((any::<u64>(), any::<u64>()), 0..6)
        ) {
            let partitions = (1..).zip(starts).map(|(number, (start, length))| Partition {
                number, start, length, type_id: "5".into(), uuid: None, name: None,
            }).collect();
            for label in [Label::Gpt, Label::Mbr] {
                let table = Table { label, sector, partitions: Vec::clone(&partitions) };
                for partition in &table.partitions {
                    if let Some(Room::Length(length)) = room(&table, partition.number, size) {
                        prop_assert!(length > partition.length);
                    }
                }
            }
        }
    }
}
