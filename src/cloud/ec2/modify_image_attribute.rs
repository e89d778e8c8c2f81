//! `ModifyImageAttribute`: who may launch an image.

use aws_sdk_ec2::types::{
    ImageAttributeName, LaunchPermission, LaunchPermissionModifications, PermissionGroup,
};

use super::api::Api;
use super::explain::{Trouble, explain};
use crate::cloud::publish::Grantee;

impl Api {
    /// Lets some launch an image, besides those who may already.
    pub(super) async fn share_image(&self, image: &str, with: &[Grantee]) -> Result<(), Trouble> {
        let add =
            LaunchPermissionModifications::builder().set_add(Some(with.iter().map(permission).collect()));
        self.ec2
            .modify_image_attribute()
            .image_id(image)
            .attribute(ImageAttributeName::LaunchPermission.as_str())
            .launch_permission(add.build())
            .send()
            .await
            .map_err(|error| explain("ec2:ModifyImageAttribute", &self.region, error))
            .map(drop)
    }
}

fn permission(grantee: &Grantee) -> LaunchPermission {
    let builder = LaunchPermission::builder();
    match grantee {
        Grantee::Account(id) => builder.user_id(id),
        Grantee::Organization(arn) => builder.organization_arn(arn),
        Grantee::Unit(arn) => builder.organizational_unit_arn(arn),
        Grantee::Everybody => builder.group(PermissionGroup::All),
    }
    .build()
}

/// Who a permission is for.
pub(super) fn grantee(permission: &LaunchPermission) -> Option<Grantee> {
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let group = permission.group().filter(|group| **group == PermissionGroup::All);
    text(permission.user_id())
        .map(Grantee::Account)
        .or_else(|| text(permission.organization_arn()).map(Grantee::Organization))
        .or_else(|| text(permission.organizational_unit_arn()).map(Grantee::Unit))
        .or_else(|| group.map(|_| Grantee::Everybody))
}
