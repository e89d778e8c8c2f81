//! What the new image inherits from its base, as plain data in EC2's own words: from an image to
//! [`crate::plan::BaseFacts::inherited`], and from there to RegisterImage's parameters.
//!
//! RegisterImage inherits nothing by itself; it even defaults to i386 and paravirtual.

use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice, Image, VolumeType};

use super::describe_volumes::VolumeSeen;
pub(super) use crate::plan::Shape as Inherited;
use crate::plan::{Ebs, Mapping};

/// GiB as bytes.
pub(super) fn bytes(gib: u64) -> u64 {
    gib.saturating_mul(1 << 30)
}

impl Inherited {
    /// All that a successor of `image` must say again. `uefi_data` comes from another call.
    pub(super) fn of(image: &Image, uefi_data: Option<String>) -> Self {
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Self {
            architecture: image.architecture().map(|arch| arch.as_str().to_owned()).unwrap_or_default(),
            virtualization_type: image
                .virtualization_type()
                .map(|kind| kind.as_str().to_owned())
                .unwrap_or_default(),
            root_device_name: image.root_device_name().unwrap_or_default().to_owned(),
            block_device_mappings: image.block_device_mappings().iter().map(Mapping::of).collect(),
            ena_support: image.ena_support(),
            sriov_net_support: text(image.sriov_net_support()),
            boot_mode: text(image.boot_mode().map(|mode| mode.as_str())),
            tpm_support: text(image.tpm_support().map(|support| support.as_str())),
            imds_support: text(image.imds_support().map(|support| support.as_str())),
            uefi_data,
            platform_details: text(image.platform_details()),
            usage_operation: text(image.usage_operation()),
        }
    }

    /// What a bare snapshot's image says: an EBS root and nothing else, ENA on as for every Linux of today.
    pub(super) fn of_snapshot(arch: &str, root_device: &str, snapshot: &str, gib: u64) -> Self {
        Self {
            architecture: arch.to_owned(),
            virtualization_type: "hvm".to_owned(),
            root_device_name: root_device.to_owned(),
            block_device_mappings: vec![Mapping {
                device_name: root_device.to_owned(),
                ebs: Some(Ebs {
                    snapshot_id: Some(snapshot.to_owned()),
                    volume_size: i32::try_from(gib).ok(),
                    volume_type: Some("gp3".to_owned()),
                    delete_on_termination: Some(true),
                    ..Ebs::default()
                }),
                ..Mapping::default()
            }],
            ena_support: Some(true),
            ..Self::default()
        }
    }

    /// What a bare volume's image says: its root is shaped as the volume is.
    pub(super) fn of_volume(arch: &str, root_device: &str, volume: &VolumeSeen) -> Self {
        let mut inherited = Self::of_snapshot(arch, root_device, "", volume.size);
        for ebs in inherited.block_device_mappings.iter_mut().filter_map(|mapping| mapping.ebs.as_mut()) {
            ebs.snapshot_id = None;
            ebs.volume_type = volume.kind.clone().or(ebs.volume_type.take());
            (ebs.iops, ebs.throughput) = (volume.iops, volume.throughput);
            ebs.encrypted = volume.encrypted;
        }
        inherited
    }

    /// What an image from scratch says: as a bare snapshot's, and how it boots.
    pub(super) fn of_scratch(arch: &str, root_device: &str, boot_mode: Option<&str>) -> Self {
        let mut new = Self::of_snapshot(arch, root_device, "", 0);
        for ebs in new.block_device_mappings.iter_mut().filter_map(|mapping| mapping.ebs.as_mut()) {
            (ebs.snapshot_id, ebs.volume_size) = (None, None);
        }
        Self { boot_mode: boot_mode.map(str::to_owned), ..new }
    }

    /// RegisterImage's mappings: the root on the new snapshot, the rest as they are.
    pub(super) fn mappings(&self, snapshot: &str) -> Vec<BlockDeviceMapping> {
        let root = self.root().map(|root| {
            let ebs = root.ebs.clone().unwrap_or_default();
            Mapping { ebs: Some(Ebs { snapshot_id: Some(snapshot.to_owned()), ..ebs }), ..root.clone() }
        });
        root.iter().chain(self.others()).map(Mapping::to_sdk).collect()
    }
}

impl Mapping {
    fn of(mapping: &BlockDeviceMapping) -> Self {
        Self {
            device_name: mapping.device_name().unwrap_or_default().to_owned(),
            virtual_name: mapping.virtual_name().filter(|name| !name.is_empty()).map(str::to_owned),
            no_device: mapping.no_device().map(str::to_owned),
            ebs: mapping.ebs().map(|ebs| Ebs {
                snapshot_id: ebs.snapshot_id().filter(|id| !id.is_empty()).map(str::to_owned),
                volume_size: ebs.volume_size(),
                volume_type: ebs.volume_type().map(|kind| kind.as_str().to_owned()),
                iops: ebs.iops(),
                throughput: ebs.throughput(),
                delete_on_termination: ebs.delete_on_termination(),
                encrypted: ebs.encrypted(),
            }),
        }
    }

    fn to_sdk(&self) -> BlockDeviceMapping {
        BlockDeviceMapping::builder()
            .device_name(&self.device_name)
            .set_virtual_name(self.virtual_name.clone())
            .set_ebs(self.ebs.as_ref().map(Ebs::to_sdk))
            .build()
    }
}

impl Ebs {
    fn to_sdk(&self) -> EbsBlockDevice {
        let kind = self.volume_type.as_deref();
        // DescribeImages tells a gp2 volume's baseline as its iops, which RegisterImage would refuse.
        let iops = self.iops.filter(|_| matches!(kind, Some("gp3" | "io1" | "io2")));
        let throughput = self.throughput.filter(|_| kind == Some("gp3"));
        // Refused beside a snapshot, which has its encryption of its own.
        let encrypted = self.encrypted.filter(|_| self.snapshot_id.is_none());
        EbsBlockDevice::builder()
            .set_snapshot_id(self.snapshot_id.clone())
            .set_volume_size(self.volume_size)
            .set_volume_type(kind.map(VolumeType::from))
            .set_iops(iops)
            .set_throughput(throughput)
            .set_delete_on_termination(self.delete_on_termination)
            .set_encrypted(encrypted)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Arch, Said};
    use crate::recipe::{DiskSpec, ShapeSpec};
    use aws_sdk_ec2::types::{
        ArchitectureValues, BootModeValues, ImdsSupportValues, TpmSupportValues, VirtualizationType,
    };

    fn ebs(snapshot: Option<&str>, kind: &str) -> EbsBlockDevice {
        EbsBlockDevice::builder()
            .set_snapshot_id(snapshot.map(str::to_owned))
            .volume_size(8)
            .volume_type(VolumeType::from(kind))
            .iops(3000)
            .throughput(125)
            .delete_on_termination(false)
            .encrypted(true)
            .build()
    }

    fn mapping(device: &str) -> aws_sdk_ec2::types::builders::BlockDeviceMappingBuilder {
        BlockDeviceMapping::builder().device_name(device)
    }

    fn image() -> Image {
        Image::builder()
            .architecture(ArchitectureValues::Arm64)
            .virtualization_type(VirtualizationType::Hvm)
            .root_device_name("/dev/xvda")
            .block_device_mappings(mapping("/dev/sdb").ebs(ebs(Some("snap-data"), "gp2")).build())
            .block_device_mappings(mapping("/dev/xvda").ebs(ebs(Some("snap-root"), "gp3")).build())
            .block_device_mappings(mapping("/dev/sdc").ebs(ebs(None, "gp3")).build())
            .block_device_mappings(mapping("/dev/sdd").virtual_name("ephemeral0").build())
            .block_device_mappings(mapping("/dev/sde").no_device("").build())
            .ena_support(true)
            .sriov_net_support("simple")
            .boot_mode(BootModeValues::UefiPreferred)
            .tpm_support(TpmSupportValues::V20)
            .imds_support(ImdsSupportValues::V20)
            .platform_details("Linux/UNIX")
            .usage_operation("RunInstances")
            .build()
    }

    #[test]
    fn everything_survives_the_way_through_the_plan() {
        let inherited = Inherited::of(&image(), Some("QU1aTlVFRkk=".into()));
        let json = serde_json::to_value(&inherited).unwrap();
        assert_eq!(json["BootMode"], "uefi-preferred");
        assert_eq!(json["BlockDeviceMappings"][3]["VirtualName"], "ephemeral0");
        assert_eq!(serde_json::from_value::<Inherited>(json).unwrap(), inherited);
        for (field, value) in [
            (&inherited.tpm_support, "v2.0"),
            (&inherited.imds_support, "v2.0"),
            (&inherited.sriov_net_support, "simple"),
            (&inherited.uefi_data, "QU1aTlVFRkk="),
            (&inherited.platform_details, "Linux/UNIX"),
            (&inherited.usage_operation, "RunInstances"),
        ] {
            assert_eq!(field.as_deref(), Some(value));
        }
    }

    #[test]
    fn the_root_goes_on_the_new_snapshot_and_the_rest_stays() {
        let inherited = Inherited::of(&image(), None);
        let (disk, shape) = (DiskSpec::default(), ShapeSpec::default());
        let said = Said { disk: &disk, size: (10 << 30) + 1, devices: &[], shape: &shape };
        let new = Inherited { boot_mode: Some("uefi".into()), ..inherited }.with(said, Arch::Arm64).unwrap();
        let sent = new.mappings("snap-new");
        assert_eq!(sent.len(), 4, "/dev/sde is not mapped");
        let root = sent[0].ebs().unwrap();
        assert_eq!(sent[0].device_name(), Some("/dev/xvda"));
        assert_eq!(root.snapshot_id(), Some("snap-new"));
        assert_eq!(root.volume_size(), Some(11));
        assert_eq!((root.iops(), root.throughput()), (Some(3000), Some(125)));
        assert_eq!(root.delete_on_termination(), Some(false), "as the base had it");
        assert_eq!(root.encrypted(), None, "refused beside a snapshot");
        let data = sent[1].ebs().unwrap();
        assert_eq!((data.snapshot_id(), data.encrypted()), (Some("snap-data"), None));
        assert_eq!((data.iops(), data.throughput()), (None, None), "gp2 takes neither");
        let blank = sent[2].ebs().unwrap();
        assert_eq!((blank.snapshot_id(), blank.encrypted()), (None, Some(true)));
        assert_eq!(sent[3].virtual_name(), Some("ephemeral0"));
    }
}
