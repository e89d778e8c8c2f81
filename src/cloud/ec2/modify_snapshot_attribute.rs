//! `ModifySnapshotAttribute`: who may make volumes of a snapshot.

use aws_sdk_ec2::types::{
    CreateVolumePermission, CreateVolumePermissionModifications, PermissionGroup, SnapshotAttributeName,
};

use super::api::Api;
use super::explain::{Trouble, explain};
use crate::cloud::publish::Grantee;

impl Api {
    /// Lets some make volumes of a snapshot, besides those who may already. EC2 knows of accounts and of everybody here.
    pub(super) async fn share_snapshot(&self, snapshot: &str, with: &[Grantee]) -> Result<(), Trouble> {
        let add = with.iter().filter_map(permission).collect();
        let add = CreateVolumePermissionModifications::builder().set_add(Some(add));
        self.ec2
            .modify_snapshot_attribute()
            .snapshot_id(snapshot)
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .create_volume_permission(add.build())
            .send()
            .await
            .map_err(|error| explain("ec2:ModifySnapshotAttribute", &self.region, error))
            .map(drop)
    }
}

fn permission(grantee: &Grantee) -> Option<CreateVolumePermission> {
    let builder = CreateVolumePermission::builder();
    let builder = match grantee {
        Grantee::Account(id) => builder.user_id(id),
        Grantee::Everybody => builder.group(PermissionGroup::All),
        Grantee::Organization(_) | Grantee::Unit(_) => return None,
    };
    Some(builder.build())
}

/// Who a permission is for.
pub(super) fn grantee(permission: &CreateVolumePermission) -> Option<Grantee> {
    let group = permission.group().filter(|group| **group == PermissionGroup::All);
    let account = permission.user_id().filter(|id| !id.is_empty());
    account.map(|id| Grantee::Account(id.to_owned())).or_else(|| group.map(|_| Grantee::Everybody))
}
