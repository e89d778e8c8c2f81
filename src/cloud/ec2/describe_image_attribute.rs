//! `DescribeImageAttribute`: what DescribeImages leaves out.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::ImageAttributeName;

use super::api::Api;
use super::explain::{Trouble, explain};
use super::modify_image_attribute::grantee;
use crate::cloud::publish::Grantee;

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

    /// Who may launch an image of this account, besides the account.
    pub(super) async fn launch_permissions(&self, image: &str) -> Result<BTreeSet<Grantee>, Trouble> {
        let answer = self
            .ec2
            .describe_image_attribute()
            .image_id(image)
            .attribute(ImageAttributeName::LaunchPermission)
            .send()
            .await
            .map_err(|error| explain("ec2:DescribeImageAttribute", &self.region, error))?;
        Ok(answer.launch_permissions().iter().filter_map(grantee).collect())
    }
}
