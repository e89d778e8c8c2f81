//! `DetachVolume`.

use super::api::Api;
use super::explain::{Trouble, explain};

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detaching {
    /// The instance was told to let go.
    Begun,
    /// It was not attached, or is being detached already.
    Not,
    /// There is no such volume.
    Gone,
}

impl Api {
    /// Begins to detach a volume from an instance, where it is attached under the name `device` if one is given.
    pub(super) async fn detach_volume(
        &self,
        volume: &str,
        instance: &str,
        device: Option<&str>,
    ) -> Result<Detaching, Trouble> {
        let call = self.ec2.detach_volume().volume_id(volume).instance_id(instance);
        let call = call.set_device(device.map(str::to_owned));
        match call.send().await.map_err(|error| explain("ec2:DetachVolume", &self.region, error)) {
            Ok(_) => Ok(Detaching::Begun),
            Err(trouble) if trouble.is(&["IncorrectState", "InvalidAttachment.NotFound"]) => {
                Ok(Detaching::Not)
            }
            Err(trouble) if trouble.is(&["InvalidVolume.NotFound"]) => Ok(Detaching::Gone),
            Err(trouble) => Err(trouble),
        }
    }
}
