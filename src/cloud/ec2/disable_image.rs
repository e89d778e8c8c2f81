//! `DisableImage`.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// Disables an image: it cannot be launched, and its launch permissions end. That it is disabled is no error.
    pub(super) async fn disable_image(&self, image: &str) -> Result<(), Trouble> {
        let sent = self.ec2.disable_image().image_id(image).send().await;
        sent.map(drop).map_err(|error| explain("ec2:DisableImage", &self.region, error))
    }
}
