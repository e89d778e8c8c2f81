//! What an image is, besides its content: the base's attributes and block devices, and the recipe's over them.

use serde::{Deserialize, Serialize};

use super::Arch;
use crate::error::{Failure, Kind};
use crate::recipe::volume::{self, refused};
use crate::recipe::{BakeSpec, Device, DeviceSpec, DiskSpec, ShapeSpec, UefiData, VolumeSpec};

const GIB: u64 = 1 << 30;

/// Bytes as whole GiB, rounded up: the unit of EBS.
pub fn gib(bytes: u64) -> i32 {
    i32::try_from(bytes.div_ceil(GIB)).unwrap_or(i32::MAX)
}

/// What an image says of itself that its successor must say again. The names are EC2's; the local store knows
/// none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Shape {
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// `hvm`.
    pub virtualization_type: String,
    /// `/dev/xvda`.
    pub root_device_name: String,
    /// The root's and all others'.
    pub block_device_mappings: Vec<Mapping>,
    /// Enhanced networking with ENA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ena_support: Option<bool>,
    /// `simple`: enhanced networking with the Intel 82599 VF interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sriov_net_support: Option<String>,
    /// `legacy-bios`, `uefi` or `uefi-preferred`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<String>,
    /// `v2.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm_support: Option<String>,
    /// `v2.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imds_support: Option<String>,
    /// The UEFI variable store, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uefi_data: Option<String>,
    /// Not registered, compared afterwards: what the image's bill comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_details: Option<String>,
    /// Not registered, compared afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_operation: Option<String>,
}

/// One block device mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mapping {
    /// `/dev/sdb`.
    pub device_name: String,
    /// An instance store, `ephemeral0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_name: Option<String>,
    /// The device is suppressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_device: Option<String>,
    /// A volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ebs: Option<Ebs>,
}

/// The EBS part of a mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ebs {
    /// What it is made of; blank without. Of a new image's root: what it is registered on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// In GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<i32>,
    /// `gp3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    /// Operations a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops: Option<i32>,
    /// In MiB/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<i32>,
    /// Whether it goes with its instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
    /// Whether it is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
}

/// What the recipe says of the image's shape.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// `[disk]`.
    pub disk: &'a DiskSpec,
    /// The root's size in bytes.
    pub size: u64,
    /// `[[device]]`.
    pub devices: &'a [DeviceSpec],
    /// Of `[image]`.
    pub shape: &'a ShapeSpec,
}

impl Shape {
    /// The root's mapping.
    pub fn root(&self) -> Option<&Mapping> {
        self.mapping(&self.root_device_name)
    }

    /// The mapping of a name.
    pub fn mapping(&self, name: &str) -> Option<&Mapping> {
        self.block_device_mappings.iter().find(|mapping| mapping.device_name == name)
    }

    /// The mappings besides the root's.
    pub fn others(&self) -> impl Iterator<Item = &Mapping> {
        // A suppressed device is one that is not mapped: RegisterImage has nothing that it could suppress.
        self.block_device_mappings
            .iter()
            .filter(|mapping| mapping.device_name != self.root_device_name && mapping.no_device.is_none())
    }

    /// A new image's shape: this one's, and over it what the recipe says.
    ///
    /// # Errors
    /// [`Kind::Recipe`] for what does not go together, or that EC2 would refuse.
    pub fn with(&self, said: Said<'_>, arch: Arch) -> Result<Self, Failure> {
        let Said { disk, size, devices, shape } = said;
        let version = |said: Option<bool>, base: &Option<String>, is: &str| match said {
            Some(true) => Some(is.to_owned()),
            Some(false) => None,
            None => base.clone(),
        };
        let root_device_name = shape.root_device.clone().unwrap_or_else(|| self.root_device_name.clone());
        let root = self.root().and_then(|root| root.ebs.clone()).unwrap_or_default().into_root(size, disk);
        if disk.volume_type.is_some() || disk.iops.is_some() || disk.throughput.is_some() {
            root.judge(true, "the root", "mend [disk]")?;
        }
        let root = Mapping { device_name: root_device_name.clone(), ebs: Some(root), ..Mapping::default() };
        let mut mappings = vec![root];
        for mapping in self.others() {
            match devices.iter().find(|device| device.name == mapping.device_name) {
                None => mappings.push(mapping.clone()),
                Some(device) => mappings.extend(over(Some(mapping), device)?),
            }
        }
        for device in devices {
            if self.others().all(|mapping| mapping.device_name != device.name) {
                mappings.extend(over(None, device)?);
            }
        }
        if let Some(double) = mappings.iter().skip(1).find(|mapping| mapping.device_name == root_device_name)
        {
            let message = format!("{} is the root's name and another device's", double.device_name);
            return Err(Failure::new(Kind::Recipe, message)
                .hint("the root is [disk]'s: give the [[device]] another name, or drop it"));
        }
        let new = Self {
            architecture: arch.as_str().to_owned(),
            root_device_name,
            block_device_mappings: mappings,
            ena_support: shape.ena.or(self.ena_support),
            sriov_net_support: version(shape.sriov, &self.sriov_net_support, "simple"),
            boot_mode: shape.boot_mode.clone().or_else(|| self.boot_mode.clone()),
            tpm_support: version(shape.tpm, &self.tpm_support, "v2.0"),
            imds_support: version(shape.imds, &self.imds_support, "v2.0"),
            uefi_data: match &shape.uefi_data {
                Some(UefiData::Data(data)) => Some(data.clone()),
                Some(UefiData::None) => None,
                Some(UefiData::File(file)) => {
                    return Err(Failure::new(Kind::Internal, format!("{} was not read", file.value)));
                }
                None => self.uefi_data.clone(),
            },
            ..self.clone()
        };
        new.judge(arch)?;
        if disk.encrypted == Some(false) && self.root_is_encrypted() {
            let failure = Failure::new(Kind::Recipe, "[disk] encrypted is false, and the base is encrypted");
            return Err(failure.hint("a volume of an encrypted snapshot is encrypted: leave it out"));
        }
        Ok(new)
    }

    fn root_is_encrypted(&self) -> bool {
        self.root().and_then(|root| root.ebs.as_ref()?.encrypted) == Some(true)
    }

    /// What EC2 asks of attributes that go together.
    fn judge(&self, arch: Arch) -> Result<(), Failure> {
        let wrong = |message: String, hint: &str| Err(Failure::new(Kind::Recipe, message).hint(hint));
        let mode = self.boot_mode.as_deref();
        let uefi = mode.is_some_and(|mode| mode.starts_with("uefi"));
        let shown = mode.unwrap_or("not said");
        if arch == Arch::Arm64 && mode.is_some_and(|mode| mode != "uefi") {
            return wrong(
                format!("the boot mode is {shown}, and an arm64 image boots by UEFI alone"),
                "say boot_mode = \"uefi\" in [image], or leave it out",
            );
        }
        // <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/enable-nitrotpm-prerequisites.html>.
        if self.tpm_support.is_some() && !uefi {
            return wrong(
                format!("a TPM needs UEFI, and the boot mode is {shown}"),
                "say boot_mode = \"uefi\" in [image] where the image can boot so, or tpm = \"none\"",
            );
        }
        if self.uefi_data.is_some() && !uefi {
            return wrong(
                format!("UEFI data needs UEFI, and the boot mode is {shown}"),
                "say boot_mode = \"uefi\" in [image] where the image can boot so, or uefi_data = \"none\"",
            );
        }
        Ok(())
    }
}

/// That a store of disk images keeps nothing of some keys, where the recipe says any of them.
pub(super) fn unknown_elsewhere(said: &Said<'_>) -> Option<String> {
    let Said { disk, devices, shape, .. } = said;
    let given = [
        ("[disk] type", disk.volume_type.is_some()),
        ("[disk] iops", disk.iops.is_some()),
        ("[disk] throughput", disk.throughput.is_some()),
        ("[disk] delete_on_termination", disk.delete_on_termination.is_some()),
        ("[disk] encrypted", disk.encrypted.is_some()),
        ("[disk.bake]", disk.bake != BakeSpec::default()),
        ("[[device]]", !devices.is_empty()),
        ("[image] uefi_data", shape.uefi_data.is_some()),
        ("[image] tpm", shape.tpm.is_some()),
        ("[image] imds", shape.imds.is_some()),
        ("[image] ena", shape.ena.is_some()),
        ("[image] sriov", shape.sriov.is_some()),
    ];
    let given: Vec<_> = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
    (!given.is_empty()).then(|| format!("EC2's alone, and nothing on the local store: {}", given.join(", ")))
}

/// A device of the recipe over the base's of that name; none where it is dropped.
fn over(base: Option<&Mapping>, device: &DeviceSpec) -> Result<Option<Mapping>, Failure> {
    let name = device.name.clone();
    let mapping = match &device.device {
        Device::Dropped => return Ok(None),
        Device::InstanceStore(store) => {
            Mapping { device_name: name, virtual_name: Some(store.clone()), ..Mapping::default() }
        }
        Device::Volume(volume) => {
            let old = base.and_then(|base| base.ebs.clone()).unwrap_or_default();
            let (was, ebs) = (old.encrypted, old.with(volume));
            let wrong = |message: String, hint: &str| Err(Failure::new(Kind::Recipe, message).hint(hint));
            if ebs.snapshot_id.is_none() && ebs.volume_size.is_none() {
                return wrong(
                    format!("the device {name} has no size, and the base has no volume of that name"),
                    "say its `size`, or its `snapshot`",
                );
            }
            if let (Some(snapshot), true) =
                (&ebs.snapshot_id, ebs.encrypted != was && volume.snapshot.is_none())
            {
                return wrong(
                    format!("the device {name} is of {snapshot}, whose encryption it has"),
                    "leave `encrypted` out, or name another snapshot",
                );
            }
            ebs.judge(false, &format!("the device {name}"), "mend its [[device]]")?;
            Mapping { device_name: name, ebs: Some(ebs), ..Mapping::default() }
        }
    };
    Ok(Some(mapping))
}

impl Ebs {
    /// A root's, with what the recipe says of the disk.
    fn into_root(self, size: u64, disk: &DiskSpec) -> Self {
        let said = VolumeSpec {
            size: Some(size),
            volume_type: disk.volume_type.clone(),
            iops: disk.iops,
            throughput: disk.throughput,
            delete_on_termination: disk.delete_on_termination,
            ..VolumeSpec::default()
        };
        let mut root = Self { snapshot_id: None, ..self }.with(&said);
        root.delete_on_termination = root.delete_on_termination.or(Some(true));
        // It cannot be taken away; it can be added.
        root.encrypted = root.encrypted.filter(|encrypted| *encrypted).or(disk.encrypted);
        root
    }

    fn with(self, said: &VolumeSpec) -> Self {
        let mut new = self.sent();
        if let Some(kind) = &said.volume_type {
            if new.volume_type.as_ref() != Some(kind) {
                (new.iops, new.throughput) = (None, None);
            }
            new.volume_type = Some(kind.clone());
        }
        let number = |number: u32| i32::try_from(number).ok();
        new.iops = said.iops.and_then(number).or(new.iops);
        new.throughput = said.throughput.and_then(number).or(new.throughput);
        if let Some(snapshot) = &said.snapshot {
            new = Self { snapshot_id: Some(snapshot.clone()), volume_size: None, encrypted: None, ..new };
        }
        new.volume_size = said.size.map(gib).or(new.volume_size);
        new.delete_on_termination = said.delete_on_termination.or(new.delete_on_termination);
        new.encrypted = said.encrypted.or(new.encrypted);
        // Where nothing is said EC2 makes gp2, of another age.
        new.volume_type = new.volume_type.or_else(|| Some("gp3".to_owned()));
        new
    }

    /// Without what EC2 tells of a volume and does not want to hear again: DescribeImages tells a gp2 volume's
    /// baseline as its iops, which RegisterImage would refuse.
    fn sent(mut self) -> Self {
        let kind = self.volume_type.as_deref();
        self.iops = self.iops.filter(|_| matches!(kind, Some("gp3" | "io1" | "io2")));
        self.throughput = self.throughput.filter(|_| kind == Some("gp3"));
        self
    }

    /// What EC2 would refuse of it.
    fn judge(&self, root: bool, what: &str, hint: &str) -> Result<(), Failure> {
        let size = self.volume_size.and_then(|gib| u64::try_from(gib).ok());
        let wrong = refused(&volume::Said {
            kind: self.volume_type.as_deref(),
            size: size.map(|gib| gib.saturating_mul(GIB)),
            iops: self.iops.map(i64::from),
            throughput: self.throughput.map(i64::from),
            rate: None,
            root,
            partial: false,
        });
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Kind::Recipe, format!("{what}: {}", wrong.join("; "))).hint(hint))
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
