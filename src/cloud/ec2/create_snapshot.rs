//! `CreateSnapshot`.

use aws_sdk_ec2::types::ResourceType;

use super::api::{Api, clipped, tag_at_creation};
use super::explain::{Trouble, explain, id_in};
use crate::cloud::SnapshotSpec;

impl Api {
    /// Begins a snapshot of a volume; its id. Has no client token: a second call makes a second snapshot.
    pub(super) async fn create_snapshot(&self, volume: &str, spec: &SnapshotSpec) -> Result<String, Trouble> {
        let answer = self
            .ec2
            .create_snapshot()
            .volume_id(volume)
            .description(clipped(&spec.description))
            .set_tag_specifications(
                tag_at_creation(ResourceType::Snapshot, &spec.tags).map(|tags| vec![tags]),
            )
            .send()
            .await
            .map_err(|error| explain("ec2:CreateSnapshot", &self.region, error))?;
        id_in("ec2:CreateSnapshot", &self.region, answer.snapshot_id())
    }
}
