//! `CreateVolume`.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{ResourceType, VolumeType};

use super::api::{Api, tag_at_creation};
use super::explain::{Trouble, explain, id_in};
use crate::plan::gib;
use crate::recipe::DiskSpec;

/// A volume to be made.
pub(super) struct NewVolume<'a> {
    pub zone: &'a str,
    /// What it begins with; blank without one.
    pub snapshot: Option<&'a str>,
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
        let kind = volume.spec.while_baking();
        let number = |number: Option<u32>| number.and_then(|number| i32::try_from(number).ok());
        let answer = self
            .ec2
            .create_volume()
            .availability_zone(volume.zone)
            .set_snapshot_id(volume.snapshot.map(str::to_owned))
            .size(gib(volume.size))
            .set_volume_type(kind.volume_type.as_deref().map(VolumeType::from))
            .set_iops(number(kind.iops))
            .set_throughput(number(kind.throughput))
            .set_volume_initialization_rate(number(kind.initialization_rate))
            // Said only to encrypt: that a volume of an encrypted snapshot is not encrypted is refused.
            .set_encrypted(volume.spec.encrypted.filter(|encrypted| *encrypted))
            .set_kms_key_id(volume.spec.kms_key.clone())
            .client_token(volume.token)
            .set_tag_specifications(tag_at_creation(ResourceType::Volume, volume.tags).map(|tags| vec![tags]))
            .send()
            .await
            .map_err(|error| explain("ec2:CreateVolume", &self.region, error))?;
        id_in("ec2:CreateVolume", &self.region, answer.volume_id())
    }
}
