//! `DeleteSnapshot`.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// Deletes a snapshot, pending or complete. That it is gone already is no error. While an image that was just
    /// deregistered still counts as using it, EC2 refuses; that passes, so it is tried again.
    pub(super) async fn delete_snapshot(&self, snapshot: &str) -> Result<(), Trouble> {
        let sent = self.ec2.delete_snapshot().snapshot_id(snapshot).send().await;
        match sent.map_err(|error| explain("ec2:DeleteSnapshot", &self.region, error)) {
            Err(trouble) if trouble.is(&["InvalidSnapshot.NotFound"]) => Ok(()),
            Err(trouble) if trouble.is(&["InvalidSnapshot.InUse"]) => Err(trouble.early()),
            other => other.map(drop),
        }
    }
}
