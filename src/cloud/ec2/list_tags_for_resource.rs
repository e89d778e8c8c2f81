//! `ListTagsForResource` of SSM.

use std::collections::BTreeMap;

use aws_sdk_ssm::types::ResourceTypeForTagging;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// A parameter's tags.
    pub(super) async fn tags_of_parameter(&self, name: &str) -> Result<BTreeMap<String, String>, Trouble> {
        let answer = self
            .ssm
            .list_tags_for_resource()
            .resource_type(ResourceTypeForTagging::Parameter)
            .resource_id(name)
            .send()
            .await
            .map_err(|error| explain("ssm:ListTagsForResource", &self.region, error))?;
        let tags = answer.tag_list().iter();
        Ok(tags.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    }
}
