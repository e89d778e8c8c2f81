//! Logical volumes: those whose group lies on the bake's own disk.
//!
//! Nothing is activated. LVM's own programs read and change the metadata alone, told of this disk's physical volumes
//! and of no other device, and never to talk to the kernel's device-mapper (`--driverloaded n`): a builder that runs
//! from the same base has a group of the same name and UUID, and so has every other bake of it. What the metadata says
//! is mapped here: a volume that is one range of one partition, as nearly every root is, by a loop device; one of
//! several ranges by device-mapper, under a name of the bake's own. Neither outlives the process. The group keeps its
//! name and its UUIDs, by which GRUB finds it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::block::Block;
use super::loopdev::LoopDevice;
use super::survey::{Area, Survey};
use super::table::Table;
use super::tool::Tool;
use super::{close, grow, probe};
use crate::error::{Failure, Kind};

mod mapper;
mod report;

use mapper::Mapped;
pub(super) use mapper::sweep;
use report::{Group, Volume};

/// blkid's name of a physical volume.
const MEMBER: &str = "LVM2_member";

/// The logical volumes of a disk, each with a device of its own.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    /// The physical volumes.
    members: Vec<Area>,
    groups: Vec<Group>,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    area: Area,
    /// None where it is of a kind that is not mapped.
    mapping: Option<Mapping>,
}

#[derive(Debug)]
enum Mapping {
    Window(LoopDevice),
    Mapped(Mapped),
}

impl Volumes {
    /// Opens those of a surveyed disk; none where it has no physical volume.
    ///
    /// # Errors
    /// [`Kind::Host`] where lvm2 is missing; [`Kind::Disk`] where a group lies on further disks.
    pub(super) fn open(survey: &Survey) -> Result<Self> {
        let is_member = |area: &&Area| area.content.kind.as_deref() == Some(MEMBER);
        let mut volumes = Self {
            members: survey.areas.iter().filter(is_member).cloned().collect(),
            groups: Vec::new(),
            open: Vec::new(),
        };
        if !volumes.members.is_empty() {
            volumes.map()?;
        }
        Ok(volumes)
    }

    /// What they hold.
    pub(super) fn areas(&self) -> impl Iterator<Item = &Area> {
        self.open.iter().map(|open| &open.area)
    }

    /// Grows the physical volumes into the free space behind their partitions, and `root`, where it is a logical
    /// volume, into what that gains; the volume as it is then. Nothing on them may be mounted.
    pub(super) fn grow(&mut self, block: &Block, table: Option<&Table>, root: &Area) -> Result<Option<Area>> {
        let Some(wanted) = root.volume.clone() else { return Ok(None) };
        self.unmap()?;
        let before = self.free(&wanted);
        for member in &self.members {
            if let Some(table) = table {
                grow::partition(block, table, member)?;
            }
            self.lvm("pvresize").arg(&member.node).run()?.success().context("growing the physical volume")?;
        }
        self.read()?;
        let gained = self.free(&wanted).saturating_sub(before);
        if gained > 0 {
            tracing::info!("growing {wanted} by {gained} extents");
            self.lvm("lvextend")
                .args(["-l", &format!("+{gained}")])
                .arg(&wanted)
                .run()?
                .success()
                .with_context(|| format!("growing the logical volume {wanted}"))?;
        }
        self.map()?;
        let found = self.areas().find(|area| area.volume.as_ref() == Some(&wanted)).cloned();
        found.with_context(|| format!("finding {wanted} again")).map(Some)
    }

    /// Writes out and lets go.
    pub(super) fn close(mut self) -> Result<()> {
        self.unmap()
    }

    /// Lets go of what is of no use any more, without waiting for who holds it.
    pub(super) fn let_go(self) {
        for open in self.open {
            match open.mapping {
                Some(Mapping::Window(device)) => device.let_go(),
                Some(Mapping::Mapped(_)) | None => {}
            }
        }
    }

    fn unmap(&mut self) -> Result<()> {
        for Open { area, mapping } in self.open.drain(..) {
            let Some(mapping) = mapping else { continue };
            close::flush(&area.node)?;
            match mapping {
                Mapping::Window(device) => device.detach(),
                Mapping::Mapped(mapped) => mapped.close(),
            }
            .with_context(|| format!("letting go of the {}", area.place()))?;
        }
        self.members.iter().try_for_each(|member| close::flush(&member.node))
    }

    /// The extents that the group of a volume (`vg/lv`) has free.
    fn free(&self, volume: &str) -> u64 {
        let group = volume.split('/').next().unwrap_or_default();
        self.groups.iter().find(|found| found.name == group).map_or(0, |group| group.free)
    }

    /// Reads the metadata.
    fn read(&mut self) -> Result<()> {
        let report = |command: &'static str, fields: &str| {
            let reading = || format!("reading the disk's LVM metadata by {command}");
            let tool = self.lvm(command).args([
                "--reportformat",
                "json",
                "--units",
                "b",
                "--nosuffix",
                "-o",
                fields,
            ]);
            let tool = if command == "lvs" { tool.arg("--segments") } else { tool };
            tool.run()?.success().with_context(reading)
        };
        let (lvs, pvs) = (report("lvs", report::LVS_FIELDS)?, report("pvs", report::PVS_FIELDS)?);
        self.groups = report::parse(&lvs, &pvs)?;
        if let Some(group) = self.groups.iter().find(|group| group.missing > 0) {
            let message = format!(
                "the volume group {} has {} physical volume(s) that are not on this disk",
                group.name, group.missing
            );
            return Err(Failure::new(Kind::Disk, message)
                .hint("use a base whose volume group lies on its root disk alone")
                .into());
        }
        Ok(())
    }

    /// Reads the metadata, and gives each volume its device.
    fn map(&mut self) -> Result<()> {
        self.read()?;
        for group in &self.groups {
            for volume in &group.volumes {
                let open = open(group, volume)
                    .with_context(|| format!("opening the logical volume {}/{}", group.name, volume.name))?;
                self.open.push(open);
            }
        }
        Ok(())
    }

    /// One of LVM's commands: about the disk's own physical volumes, and of the host's settings none.
    fn lvm(&self, command: &'static str) -> Tool {
        let nodes: Vec<_> = self.members.iter().map(|member| member.node.to_string_lossy()).collect();
        Tool::new("lvm")
            .env("LVM_SYSTEM_DIR", "")
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .arg(command)
            .args(["--driverloaded", "n", "--devices", &nodes.join(",")])
            .args(["--config", "backup { backup=0 archive=0 } devices { hints=\"none\" }"])
    }
}

fn open(group: &Group, volume: &Volume) -> Result<Open> {
    let name = format!("{}/{}", group.name, volume.name);
    let area = |node: PathBuf, content| Area {
        number: None,
        volume: Some(name.clone()),
        node,
        length: volume.length,
        type_id: None,
        part_uuid: None,
        part_label: None,
        content,
    };
    let mapping = match (&volume.odd, volume.segments.as_slice()) {
        (Some(odd), _) => {
            let content = probe::Content { kind: Some(format!("LVM {odd}")), ..probe::Content::default() };
            return Ok(Open { area: area(PathBuf::new(), content), mapping: None });
        }
        (None, [only]) => Mapping::Window(LoopDevice::window(&only.device, only.offset, only.length)?),
        (None, several) => {
            Mapping::Mapped(Mapped::make(&mapper::name(&group.name, &volume.name, several), several)?)
        }
    };
    let node = match &mapping {
        Mapping::Window(device) => device.path(),
        Mapping::Mapped(mapped) => mapped.node.as_path(),
    };
    Ok(Open { area: area(node.to_owned(), probe::probe(node)?), mapping: Some(mapping) })
}

/// The volume (`vg/lv`) that a device's name means: `/dev/vg/lv`, or `/dev/mapper/vg-lv` with its dashes doubled.
pub(super) fn volume_named(source: &str) -> Option<String> {
    let rest = source.strip_prefix("/dev/")?;
    let Some(mapped) = rest.strip_prefix("mapper/") else {
        let (group, volume) = rest.split_once('/')?;
        let plain = !group.is_empty() && !volume.is_empty() && !volume.contains('/');
        return plain.then(|| rest.to_owned());
    };
    // A dash that is neither doubled nor part of a doubled one stands between the two names.
    let bytes = mapped.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'-'), Some(b'-')) => at += 2,
            (Some(b'-'), _) => {
                let (group, volume) = (mapped.get(..at)?, mapped.get(at + 1..)?);
                return Some(format!("{}/{}", group.replace("--", "-"), volume.replace("--", "-")));
            }
            _ => at += 1,
        }
    }
    None
}

/// Has the host let go of what it made of a disk's physical volumes by itself: where its udev rules activate every
/// group that appears, they do so with the bake's too. What is in use stays.
pub(super) fn deactivate(block: &Block, sysfs: &Path) -> Result<()> {
    for name in activated(block, sysfs) {
        tracing::info!("{name} was activated by this host: removing it");
        let done = Tool::new("dmsetup").args(["remove", "--retry", &name]).run()?;
        if done.code() != Some(0) {
            tracing::debug!("{:#}", done.failure());
        }
    }
    Ok(())
}

/// The names of the logical volumes, active on this host, that lie on a disk or its partitions. `sysfs` is
/// `/sys/class/block`.
fn activated(block: &Block, sysfs: &Path) -> Vec<String> {
    let names = |folder: PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let disk = sysfs.join(&block.name);
    let parts = names(disk.clone()).into_iter().filter(|name| disk.join(name).join("partition").exists());
    let holders =
        parts.map(|part| disk.join(part).join("holders")).chain([disk.join("holders")]).flat_map(names);
    let mut found: Vec<String> = holders
        .filter_map(|holder| {
            let read = |field: &str| std::fs::read_to_string(sysfs.join(&holder).join("dm").join(field)).ok();
            let is_lvm = read("uuid")?.starts_with("LVM-");
            is_lvm.then(|| read("name").map(|name| name.trim().to_owned())).flatten()
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_of_volumes_are_understood() {
        for (source, volume) in [
            ("/dev/rhel/root", Some("rhel/root")),
            ("/dev/mapper/rhel-root", Some("rhel/root")),
            ("/dev/mapper/my--vg-the--root", Some("my-vg/the-root")),
            ("/dev/mapper/a---b", Some("a-/b")),
            ("/dev/mapper/luks", None),
            ("/dev/sda1", None),
            ("/dev/a/b/c", None),
            ("UUID=1-2", None),
        ] {
            assert_eq!(volume_named(source).as_deref(), volume, "{source}");
        }
    }

    #[test]
    fn only_what_lvm_made_of_this_disk_is_taken_away() {
        let sysfs = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = sysfs.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("nvme1n1/nvme1n1p1/partition", "1");
        put("nvme1n1/nvme1n1p2/partition", "2");
        put("nvme1n1/nvme1n1p2/holders/dm-3", "");
        put("nvme1n1/nvme1n1p2/holders/dm-4", "");
        put("nvme0n1/nvme0n1p2/partition", "2");
        put("nvme0n1/nvme0n1p2/holders/dm-0", "");
        for (dm, name, uuid) in [
            ("dm-0", "rhel-root", "LVM-a"),
            ("dm-3", "rhel_1-root", "LVM-b"),
            ("dm-4", "own", "CRYPT-LUKS2-c"),
        ] {
            put(&format!("{dm}/dm/name"), &format!("{name}\n"));
            put(&format!("{dm}/dm/uuid"), &format!("{uuid}\n"));
        }
        let block = Block { name: "nvme1n1".into(), node: "/dev/nvme1n1".into() };
        assert_eq!(activated(&block, sysfs.path()), ["rhel_1-root"]);
    }

    #[test]
    fn commands_see_the_disks_own_devices_and_no_driver() {
        let mut member = crate::disk::survey::tests::area(2, MEMBER);
        member.node = "/dev/nvme1n1p2".into();
        let volumes = Volumes { members: vec![member], groups: Vec::new(), open: Vec::new() };
        assert_eq!(
            volumes.lvm("lvextend").args(["-l", "+23"]).arg("rhel/root").line(),
            "lvm lvextend --driverloaded n --devices /dev/nvme1n1p2 --config backup { backup=0 archive=0 } devices { \
             hints=\"none\" } -l +23 rhel/root"
        );
    }
}
