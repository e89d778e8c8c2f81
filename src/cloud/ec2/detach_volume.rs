//! `DetachVolume`.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// Begins to detach a volume from an instance. False where it is not attached, or gone.
    pub(super) async fn detach_volume(&self, volume: &str, instance: &str) -> Result<bool, Trouble> {
        let call = self.ec2.detach_volume().volume_id(volume).instance_id(instance);
        match call.send().await.map_err(|error| explain("ec2:DetachVolume", &self.region, error)) {
            Err(trouble) if not_attached(&trouble) => Ok(false),
            other => other.map(|_| true),
        }
    }
}

fn not_attached(trouble: &Trouble) -> bool {
    trouble.is(&["IncorrectState", "InvalidAttachment.NotFound", "InvalidVolume.NotFound"])
}
