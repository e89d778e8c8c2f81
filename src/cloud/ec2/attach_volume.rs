//! `AttachVolume`.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// Begins to attach a volume. One just made may not be known yet.
    pub(super) async fn attach_volume(
        &self,
        volume: &str,
        instance: &str,
        device: &str,
    ) -> Result<(), Trouble> {
        let call = self.ec2.attach_volume().volume_id(volume).instance_id(instance).device(device);
        let sent = call.send().await.map_err(|error| explain("ec2:AttachVolume", &self.region, error));
        sent.map(drop).map_err(Trouble::unseen)
    }
}

/// Whether a refusal means that the device name is taken, so that another may do.
pub(super) fn name_is_taken(trouble: &Trouble) -> bool {
    trouble.is(&["InvalidDevice.InUse"])
        || trouble.is(&["InvalidParameterValue"])
            && (trouble.message.contains("already in use") || trouble.message.contains("already attached"))
}

/// Whether a refusal means that this instance never takes such a device name.
pub(super) fn name_is_refused(trouble: &Trouble) -> bool {
    trouble.is(&["InvalidParameterValue"]) && trouble.message.contains("unixDevice")
}
