//! `DescribeImageAttribute`: the UEFI data, which DescribeImages leaves out.

use aws_sdk_ec2::types::ImageAttributeName;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// The image's UEFI variable store (base64), where it has one. Only its owner is told.
    pub(super) async fn uefi_data(&self, image: &str) -> Result<Option<String>, Trouble> {
        let answer = self
            .ec2
            .describe_image_attribute()
            .image_id(image)
            .attribute(ImageAttributeName::UefiData)
            .send()
            .await
            .map_err(|error| explain("ec2:DescribeImageAttribute", &self.region, error))?;
        let data = answer.uefi_data().and_then(|data| data.value());
        Ok(data.filter(|data| !data.is_empty()).map(str::to_owned))
    }
}
