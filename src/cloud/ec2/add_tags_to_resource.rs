//! `AddTagsToResource` of SSM.

use std::collections::BTreeMap;

use aws_sdk_ssm::types::ResourceTypeForTagging;

use super::api::Api;
use super::explain::{Trouble, explain};
use super::put_parameter::ssm_tags;

impl Api {
    /// Tags a parameter, besides the tags that it has.
    pub(super) async fn tag_parameter(
        &self,
        name: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Trouble> {
        self.ssm
            .add_tags_to_resource()
            .resource_type(ResourceTypeForTagging::Parameter)
            .resource_id(name)
            .set_tags(Some(ssm_tags(tags)))
            .send()
            .await
            .map_err(|error| explain("ssm:AddTagsToResource", &self.region, error))
            .map(drop)
    }
}
