//! `DeregisterImage`.

use aws_sdk_ec2::types::SnapshotReturnCodes;

use super::api::Api;
use super::explain::{Trouble, explain};

/// What became of the snapshots of an image that was deregistered, as far as EC2 says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Deregistered {
    /// Deleted.
    pub deleted: Vec<String>,
    /// Left, because another image uses them.
    pub shared: Vec<String>,
}

impl Api {
    /// Deregisters an image. That it is gone already is no error.
    pub(super) async fn deregister_image(&self, image: &str) -> Result<(), Trouble> {
        let sent = self.ec2.deregister_image().image_id(image).send().await;
        match sent.map_err(|error| explain("ec2:DeregisterImage", &self.region, error)) {
            Err(trouble) if trouble.is(&["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Deregisters an image and has EC2 delete its snapshots. Of one that is gone already nothing is said.
    pub(super) async fn deregister_with_snapshots(&self, image: &str) -> Result<Deregistered, Trouble> {
        let sent = self.ec2.deregister_image().image_id(image).delete_associated_snapshots(true).send().await;
        let answer = match sent.map_err(|error| explain("ec2:DeregisterImage", &self.region, error)) {
            Err(trouble) if trouble.is(&["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => {
                return Ok(Deregistered::default());
            }
            answer => answer?,
        };
        let mut told = Deregistered::default();
        for one in answer.delete_snapshot_results() {
            let Some(id) = one.snapshot_id() else { continue };
            match one.return_code() {
                Some(SnapshotReturnCodes::Success) => told.deleted.push(id.to_owned()),
                Some(SnapshotReturnCodes::WarnSkipped) => told.shared.push(id.to_owned()),
                _ => {}
            }
        }
        Ok(told)
    }
}
