//! `CreateVolume`.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{ResourceType, VolumeType};

use super::api::{Api, tag_at_creation};
use super::explain::{Trouble, explain, id_in};
use super::inherited::gib;
use crate::recipe::DiskSpec;

/// A volume to be made of a snapshot.
pub(super) struct NewVolume<'a> {
    pub zone: &'a str,
    pub snapshot: &'a str,
    /// In bytes.
    pub size: u64,
    pub spec: &'a DiskSpec,
    /// Makes the call idempotent.
    pub token: &'a str,
    pub tags: &'a BTreeMap<String, String>,
}

impl Api {
    /// Makes a volume; its id. The same token makes the same volume.
    pub(super) async fn create_volume(&self, volume: &NewVolume<'_>) -> Result<String, Trouble> {
        let spec = volume.spec;
        let kind = spec.volume_type.as_deref().unwrap_or("gp3");
        let answer = self
            .ec2
            .create_volume()
            .availability_zone(volume.zone)
            .snapshot_id(volume.snapshot)
            .size(gib(volume.size))
            .volume_type(VolumeType::from(kind))
            .set_iops(spec.iops.and_then(|iops| i32::try_from(iops).ok()))
            .set_throughput(spec.throughput.and_then(|throughput| i32::try_from(throughput).ok()))
            .client_token(volume.token)
            .set_tag_specifications(tag_at_creation(ResourceType::Volume, volume.tags).map(|tags| vec![tags]))
            .send()
            .await
            .map_err(|error| explain("ec2:CreateVolume", &self.region, error))?;
        id_in("ec2:CreateVolume", &self.region, answer.volume_id())
    }
}
