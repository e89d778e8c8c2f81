//! What steps are told and given of the bake's disk.

use super::Kitchen;
use crate::disk::{Label, MountedRoot};
use crate::provision::{Disk, DiskMount};

impl Kitchen<'_> {
    pub(super) fn disk_for_steps(&self, root: &MountedRoot) -> Disk {
        let nodes = root.nodes().unwrap_or_else(|error| {
            self.reporter.warn(&format!("steps will see no disk: {error:#}"));
            Vec::new()
        });
        let mounts = root.mounts().unwrap_or_else(|error| {
            self.reporter.warn(&format!("GRUB's tools will not be told of the disk: {error:#}"));
            Vec::new()
        });
        let table = root.label().map(|label| match label {
            Label::Gpt => "gpt",
            Label::Mbr => "msdos",
        });
        let mounts = mounts.into_iter().map(|(path, area)| DiskMount {
            path,
            node: area.node.clone(),
            kind: area.content.kind.clone(),
            uuid: area.content.uuid.clone(),
            part_uuid: area.part_uuid.clone(),
            table,
            partition: area.number,
            volume: area.mapper_name(),
        });
        Disk { nodes, names: root.names(), mounts: mounts.collect() }
    }
}
