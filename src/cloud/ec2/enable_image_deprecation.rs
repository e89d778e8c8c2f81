//! `EnableImageDeprecation`.

use aws_sdk_ec2::primitives::DateTime;
use jiff::Timestamp;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// Deprecates an image at a time, which EC2 rounds to the minute. A new time replaces an old one.
    pub(super) async fn deprecate_image(&self, image: &str, at: Timestamp) -> Result<(), Trouble> {
        self.ec2
            .enable_image_deprecation()
            .image_id(image)
            .deprecate_at(DateTime::from_secs(at.as_second()))
            .send()
            .await
            .map_err(|error| explain("ec2:EnableImageDeprecation", &self.region, error))
            .map(drop)
    }
}
