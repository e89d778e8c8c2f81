//! `CopyImage`, called in the Region where the copy is to be.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::ResourceType;

use super::api::{Api, clipped, tag_at_creation};
use super::explain::{Trouble, explain, id_in};
use crate::cloud::publish::Publishable;
use crate::recipe::CopySpec;

impl Api {
    /// Begins a copy of an image; its id. The same token begins it once. The tags are given to the copy and its
    /// snapshots alike.
    pub(super) async fn copy_image(
        &self,
        source: &Publishable,
        spec: &CopySpec,
        tags: &BTreeMap<String, String>,
        token: &str,
    ) -> Result<String, Trouble> {
        let kinds = [ResourceType::Image, ResourceType::Snapshot];
        let tags: Vec<_> = kinds.into_iter().filter_map(|kind| tag_at_creation(kind, tags)).collect();
        let answer = self
            .ec2
            .copy_image()
            .source_image_id(&source.id)
            .source_region(&source.region)
            .name(&source.name)
            .set_description(
                Some(&source.description).filter(|text| !text.is_empty()).map(|text| clipped(text)),
            )
            // An encrypted image's copy is encrypted, whatever is said: `false` would be refused.
            .set_encrypted(spec.encrypted.then_some(true))
            .set_kms_key_id(spec.kms_key.clone())
            .set_snapshot_copy_completion_duration_minutes(spec.within.map(i64::from))
            .set_tag_specifications(Some(tags).filter(|tags| !tags.is_empty()))
            .client_token(token)
            .send()
            .await
            .map_err(|error| explain("ec2:CopyImage", &self.region, error))?;
        id_in("ec2:CopyImage", &self.region, answer.image_id())
    }
}
