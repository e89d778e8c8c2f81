//! `[[device]]`: block devices besides the root.

use serde::{Deserialize, Serialize};

use super::base::resource_id;
use super::disk::{Read, small};
use super::reader::{Complaints, Table, listed};
use super::{Complaint, Spanned};

/// A further block device of the image: added, or laid over the base's of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Its name as instances are given it, `/dev/sdb`.
    pub name: String,
    /// What it is.
    pub device: Device,
}

/// What a block device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// An EBS volume; what is left out is the base's.
    Volume(VolumeSpec),
    /// An instance store, `ephemeral0`.
    InstanceStore(String),
    /// Not in the image.
    Dropped,
}

/// An EBS volume that instances are given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// In bytes.
    pub size: Option<u64>,
    /// EBS volume type.
    pub volume_type: Option<String>,
    /// Provisioned operations a second.
    pub iops: Option<u32>,
    /// Throughput in MiB/s (gp3 alone).
    pub throughput: Option<u32>,
    /// The snapshot that it is made of; blank without.
    pub snapshot: Option<String>,
    /// Whether it goes with its instance.
    pub delete_on_termination: Option<bool>,
    /// Whether a blank one is encrypted, under the account's default key.
    pub encrypted: Option<bool>,
}

/// Keys of a volume.
const OF_VOLUMES: [&str; 7] =
    ["size", "type", "iops", "throughput", "snapshot", "delete_on_termination", "encrypted"];

/// Reads all of them.
pub(super) fn devices(tables: Vec<Table>, complaints: &mut Complaints) -> Vec<DeviceSpec> {
    let mut devices: Vec<DeviceSpec> = Vec::new();
    for table in tables {
        let span = table.span.clone();
        let Some(device) = device(table, complaints) else { continue };
        if devices.iter().any(|other| other.name == device.name) {
            let message = format!("the device {} is there twice", device.name);
            complaints.push(Complaint::new(message, span).label("the second one"));
        }
        devices.push(device);
    }
    devices
}

fn device(mut table: Table, complaints: &mut Complaints) -> Option<DeviceSpec> {
    let name = table.string("name", complaints);
    match &name {
        Some(name) if !is_device_name(&name.value) => complaints.push(
            Complaint::new("`name` is no block device's", name.span.clone())
                .help("/dev/sdb to /dev/sdz, or /dev/xvdb and on"),
        ),
        None if table.get("name").is_none() => complaints.missing(
            Complaint::new("a device has no `name`", table.span.clone()).help("add name = \"/dev/sdb\""),
        ),
        _ => {}
    }
    let size = table.size("size", complaints);
    let read = Read { size, ..Read::of(&mut table, complaints) };
    let snapshot = table.string("snapshot", complaints);
    let delete_on_termination = table.bool("delete_on_termination", complaints);
    let encrypted = table.bool("encrypted", complaints);
    let ephemeral = table.string("ephemeral", complaints);
    let drop = table.bool("drop", complaints);
    no_key(&mut table, complaints);
    let kind = kind(&mut table, ephemeral.is_some(), drop == Some(true), complaints);
    if let (Some((name, _)), Some(_)) = (table.entry("encrypted"), &snapshot) {
        complaints.push(
            Complaint::new("`encrypted` does not go with `snapshot`", name.span.clone())
                .help("a volume of a snapshot is encrypted as the snapshot is"),
        );
    }
    table.finish(complaints);
    if let Some(ephemeral) = &ephemeral {
        check_ephemeral(ephemeral, complaints);
    }
    if let Some(snapshot) = &snapshot
        && !resource_id(&snapshot.value, "snap-")
    {
        let message = "`snapshot` must be snap- and 8 or 17 hexadecimal digits";
        complaints.push(Complaint::new(message, snapshot.span.clone()).label("can't be one"));
    }
    // What is not said may be the base's.
    read.check(&read.said(false, true), complaints);
    let device = match kind {
        Kind::Dropped => Device::Dropped,
        Kind::InstanceStore => Device::InstanceStore(ephemeral?.value),
        Kind::Volume => Device::Volume(VolumeSpec {
            size: read.size.map(|size| size.value),
            volume_type: read.kind.map(|kind| kind.value),
            iops: small(read.iops),
            throughput: small(read.throughput),
            snapshot: snapshot.map(|snapshot| snapshot.value),
            delete_on_termination,
            encrypted,
        }),
    };
    Some(DeviceSpec { name: name?.value, device })
}

enum Kind {
    Volume,
    InstanceStore,
    Dropped,
}

/// What the table speaks of; complains where it speaks of several.
fn kind(table: &mut Table, ephemeral: bool, dropped: bool, complaints: &mut Complaints) -> Kind {
    let of_volume: Vec<_> = OF_VOLUMES.iter().filter(|key| table.get(key).is_some()).copied().collect();
    let (kind, what) = match (dropped, ephemeral) {
        (true, _) => (Kind::Dropped, "drop"),
        (_, true) => (Kind::InstanceStore, "ephemeral"),
        _ => (Kind::Volume, ""),
    };
    let also: Vec<_> = match (&kind, ephemeral) {
        (Kind::Volume, _) => {
            if of_volume.is_empty() {
                complaints.missing(
                    Complaint::new("a device that says nothing of itself", table.span.clone()).help(
                        "say `size` or `snapshot` for a volume, `ephemeral` for an instance store, or drop = true",
                    ),
                );
            }
            return kind;
        }
        (Kind::Dropped, true) => of_volume.into_iter().chain(["ephemeral"]).collect(),
        _ => of_volume,
    };
    if !also.is_empty() {
        let span = table.entry(what).map_or(table.span.clone(), |(name, _)| name.span.clone());
        complaints.push(Complaint::new(format!("`{what}` does not go with {}", listed(&also)), span).help(
            match kind {
                Kind::Dropped => "a dropped device is not in the image: leave the rest out",
                _ => "an instance store is what the instance type has: leave the rest out",
            },
        ));
    }
    kind
}

fn no_key(table: &mut Table, complaints: &mut Complaints) {
    if let Some((name, _)) = table.entry("kms_key") {
        complaints.push(
            Complaint::new("a further device takes no `kms_key`", name.span.clone()).help(
                "RegisterImage has no key for one: with encrypted = true it is the account's default key, with `snapshot` the snapshot's",
            ),
        );
    }
}

/// Instance stores are numbered from 0 to 23.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html>.
fn check_ephemeral(name: &Spanned<String>, complaints: &mut Complaints) {
    let number = name.value.strip_prefix("ephemeral").and_then(|number| number.parse::<u8>().ok());
    if number.is_none_or(|number| number > 23 || name.value != format!("ephemeral{number}")) {
        complaints.push(
            Complaint::new("`ephemeral` names no instance store", name.span.clone())
                .help("ephemeral0 to ephemeral23"),
        );
    }
}

/// Whether EC2 takes it as a device's name: `/dev/sdb`, `/dev/sdb1`, `/dev/xvdb`, `/dev/xvdba`.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html>.
pub(crate) fn is_device_name(name: &str) -> bool {
    let name = name.strip_prefix("/dev/").unwrap_or_default();
    let (rest, letters) = match (name.strip_prefix("sd"), name.strip_prefix("xvd")) {
        (Some(rest), _) => (rest, 1),
        (_, Some(rest)) => (rest, 2),
        _ => return false,
    };
    let named = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = rest.get(named.len()..).unwrap_or_default();
    (1..=letters).contains(&named.len())
        && named.bytes().all(|byte| byte.is_ascii_lowercase())
        && (number.is_empty() || number.parse::<u8>().is_ok_and(|number| (1..=15).contains(&number)))
}
