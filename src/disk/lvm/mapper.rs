//! A logical volume of several ranges, as one device: device-mapper's linear target.
//!
//! Not what LVM itself would make: the name is the bake's, so that neither another bake of the same base nor a
//! builder that runs from it is in the way. Removal is asked for as soon as the device is open: the kernel then
//! carries it out when the last user has gone, and that is so when the process ends, however it ends. What a process that
//! was killed before that has left is known by its UUID, which names the process, and swept.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};

use super::report::Segment;
use crate::disk::tool::Tool;
use crate::disk::{block, wait};
use crate::error::{Failure, Kind};
use crate::maker::Maker;

/// Device-mapper counts in these, whatever the device's own sectors are.
const SECTOR: u64 = 512;

/// How the UUIDs of mappings begin; the process and a number follow.
const UUID: &str = "bakehouse-";

/// The mappings that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Where the kernel lists block devices.
const BLOCKS: &str = "/sys/block";

/// Such a device.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) node: PathBuf,
    /// What keeps it.
    open: Option<File>,
}

/// A name for it: of the disk's partition and of the volume, without what device-mapper would not take.
pub(super) fn name(group: &str, volume: &str, segments: &[Segment]) -> String {
    let device = segments.first().and_then(|first| first.device.file_name());
    let device = device.unwrap_or_default().to_string_lossy();
    let text = format!("bakehouse-{device}-{group}-{volume}");
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "+-_.".contains(c) { c } else { '_' }).collect()
}

/// Its table, as `dmsetup create` reads it.
pub(super) fn table(segments: &[Segment]) -> String {
    let line = |segment: &Segment| {
        let (start, length, offset) =
            (segment.start / SECTOR, segment.length / SECTOR, segment.offset / SECTOR);
        format!("{start} {length} linear {} {offset}\n", segment.device.display())
    };
    segments.iter().map(line).collect()
}

/// Removes what bakes have left that were killed before they asked for its removal. What somebody has open goes with its
/// last user.
///
/// # Errors
/// The first mapping that could not be removed; all others went nevertheless.
pub(in crate::disk) fn sweep() -> Result<usize> {
    let (mut swept, mut wrong) = (0, None);
    for name in left(Path::new(BLOCKS)) {
        let removed =
            Tool::new("dmsetup").args(["remove", "--deferred", &name]).run().and_then(|done| done.success());
        match removed.with_context(|| format!("removing the mapping {name} of a dead bake")) {
            Ok(_) => swept += 1,
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    wrong.map_or(Ok(swept), Err)
}

/// The names of the mappings whose bakes are over. `blocks` is `/sys/block`.
fn left(blocks: &Path) -> Vec<String> {
    let read = |device: &Path, what: &str| std::fs::read_to_string(device.join("dm").join(what)).ok();
    let mut names: Vec<_> = std::fs::read_dir(blocks)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|device| {
            let device = device.path();
            let maker = Maker::read(read(&device, "uuid")?.trim().strip_prefix(UUID)?)?;
            maker.is_over().then(|| read(&device, "name")).flatten()
        })
        .map(|name| name.trim().to_owned())
        .collect();
    names.sort();
    names
}

impl Mapped {
    pub(super) fn make(name: &str, segments: &[Segment]) -> Result<Self> {
        // One of a bake that was killed may have the name.
        if let Err(error) = sweep() {
            tracing::debug!("{error:#}");
        }
        let uuid = format!("{UUID}{}-{}", Maker::own(), MADE.fetch_add(1, Ordering::Relaxed));
        Tool::new("dmsetup")
            .args(["create", "--uuid", &uuid, name])
            .input(table(segments))
            .run()?
            .success()
            .map_err(|error| match crate::error::failure_of(&error) {
                None if !Path::new("/dev/mapper/control").exists() => error.context(
                    Failure::new(Kind::Host, "this host's kernel has no device-mapper")
                        .hint("sudo modprobe dm-mod; or bake on a host that has it"),
                ),
                _ => error,
            })
            .context("mapping a logical volume of several ranges")?;
        let node = Path::new("/dev/mapper").join(name);
        let open = block::node_appears(&node)
            .and_then(|()| File::open(&node).with_context(|| format!("opening {}", node.display())));
        let removed =
            Tool::new("dmsetup").args(["remove", "--deferred", name]).run().and_then(|done| done.success());
        let open = open?;
        removed.with_context(|| format!("having {name} removed after its last use"))?;
        Ok(Self { node, open: Some(open) })
    }

    /// Lets it go, and waits until it has gone.
    pub(super) fn close(mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let metadata = open.metadata().with_context(|| format!("looking at {}", self.node.display()))?;
        let (major, minor) = block::numbers(metadata.rdev());
        drop(open);
        let shown = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        match wait::until(wait::SETTLE, || Ok((!shown.exists()).then_some(())))? {
            Some(()) => Ok(()),
            None => bail!("{} is still in use", self.node.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_the_process_that_made_it() {
        let blocks = tempfile::tempdir().unwrap();
        let own = Maker::own();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        assert!(child.wait().unwrap().success());
        for (device, name, uuid) in [
            ("dm-0", "rhel-root", "LVM-a"),
            ("dm-1", "bakehouse-nvme1n1p2-rhel-root", &format!("bakehouse-{dead}-1-0")),
            ("dm-2", "bakehouse-nvme2n1p2-rhel-root", &format!("bakehouse-{own}-0")),
            ("dm-3", "bakehouse-of-somebody-else", ""),
        ] {
            let folder = blocks.path().join(device).join("dm");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("name"), format!("{name}\n")).unwrap();
            std::fs::write(folder.join("uuid"), format!("{uuid}\n")).unwrap();
        }
        std::fs::create_dir_all(blocks.path().join("loop0")).unwrap();
        assert_eq!(left(blocks.path()), ["bakehouse-nvme1n1p2-rhel-root"]);
    }

    #[test]
    fn the_table_is_device_mappers() {
        let segment = |start: u64, length: u64, offset: u64| Segment {
            start: start << 20,
            length: length << 20,
            device: "/dev/nvme1n1p2".into(),
            offset: offset << 20,
        };
        let segments = [segment(0, 96, 1), segment(96, 92, 129)];
        assert_eq!(
            table(&segments),
            "0 196608 linear /dev/nvme1n1p2 2048\n196608 188416 linear /dev/nvme1n1p2 264192\n"
        );
        assert_eq!(name("rhel", "root", &segments), "bakehouse-nvme1n1p2-rhel-root");
        assert_eq!(name("v g", "é", &[]), "bakehouse--v_g-_");
    }
}
