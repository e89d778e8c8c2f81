//! `DeregisterImage`.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// Deregisters an image. That it is gone already is no error.
    pub(super) async fn deregister_image(&self, image: &str) -> Result<(), Trouble> {
        let sent = self.ec2.deregister_image().image_id(image).send().await;
        match sent.map_err(|error| explain("ec2:DeregisterImage", &self.region, error)) {
            Err(trouble) if trouble.is(&["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => Ok(()),
            other => other.map(drop),
        }
    }
}
