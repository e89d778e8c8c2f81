//! `EnableImageDeregistrationProtection`.

use super::api::Api;
use super::explain::{Trouble, explain};
use crate::recipe::Protection;

impl Api {
    /// Protects an image from being deregistered.
    pub(super) async fn protect_image(&self, image: &str, protection: Protection) -> Result<(), Trouble> {
        self.ec2
            .enable_image_deregistration_protection()
            .image_id(image)
            .with_cooldown(protection == Protection::WithCooldown)
            .send()
            .await
            .map_err(|error| explain("ec2:EnableImageDeregistrationProtection", &self.region, error))
            .map(drop)
    }
}

/// What DescribeImages says of it: `disabled`, `enabled-with-cooldown`, `enabled-without-cooldown`.
pub(super) fn protection(word: Option<&str>) -> Option<Protection> {
    match word? {
        "enabled-with-cooldown" => Some(Protection::WithCooldown),
        word if word.starts_with("enabled") => Some(Protection::WithoutCooldown),
        _ => None,
    }
}
