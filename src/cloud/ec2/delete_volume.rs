//! `DeleteVolume`.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// Deletes a volume. That it is gone already is no error.
    pub(super) async fn delete_volume(&self, volume: &str) -> Result<(), Trouble> {
        let sent = self.ec2.delete_volume().volume_id(volume).send().await;
        match sent.map_err(|error| explain("ec2:DeleteVolume", &self.region, error)) {
            Err(trouble) if trouble.is(&["InvalidVolume.NotFound"]) => Ok(()),
            other => other.map(drop),
        }
    }
}
