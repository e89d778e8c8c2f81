//! `PutParameter` of SSM.

use std::collections::BTreeMap;

use aws_sdk_ssm::types::{ParameterType, Tag};

use super::api::Api;
use super::explain::{Trouble, explain};

/// The data type of an image's id. EC2 is asked about it after the call was answered; where it does not know the
/// image, the parameter stays as it was.
pub(super) const IMAGE: &str = "aws:ec2:image";

impl Api {
    /// Makes a parameter that says an image's id, with its tags. One of that name that is there is refused.
    pub(super) async fn new_parameter(
        &self,
        name: &str,
        image: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Trouble> {
        self.put(name, image, Some(ssm_tags(tags))).await
    }

    /// Has a parameter that is there say an image's id. SSM takes no tags beside this.
    pub(super) async fn overwrite_parameter(&self, name: &str, image: &str) -> Result<(), Trouble> {
        self.put(name, image, None).await
    }

    async fn put(&self, name: &str, image: &str, tags: Option<Vec<Tag>>) -> Result<(), Trouble> {
        // Tags and overwriting are refused together.
        let overwrite = tags.is_none();
        self.ssm
            .put_parameter()
            .name(name)
            .value(image)
            .r#type(ParameterType::String)
            .data_type(IMAGE)
            .overwrite(overwrite)
            .set_tags(tags.filter(|tags| !tags.is_empty()))
            .send()
            .await
            .map_err(|error| explain("ssm:PutParameter", &self.region, error))
            .map(drop)
    }
}

/// Tags as SSM takes them.
pub(super) fn ssm_tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    // Key and value are all that a tag must have.
    tags.iter().filter_map(|(key, value)| Tag::builder().key(key).value(value).build().ok()).collect()
}
