//! `DescribeSnapshotAttribute`: who may make volumes of a snapshot.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::SnapshotAttributeName;

use super::api::Api;
use super::explain::{Trouble, explain};
use super::modify_snapshot_attribute::grantee;
use crate::cloud::publish::Grantee;

impl Api {
    /// Who may make volumes of a snapshot of this account, besides the account.
    pub(super) async fn volume_permissions(&self, snapshot: &str) -> Result<BTreeSet<Grantee>, Trouble> {
        let answer = self
            .ec2
            .describe_snapshot_attribute()
            .snapshot_id(snapshot)
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .send()
            .await
            .map_err(|error| explain("ec2:DescribeSnapshotAttribute", &self.region, error))?;
        Ok(answer.create_volume_permissions().iter().filter_map(grantee).collect())
    }
}
