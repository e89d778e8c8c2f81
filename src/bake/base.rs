//! The base that a selector means.

use anyhow::Result;

use crate::cloud::Cloud;
use crate::disk;
use crate::plan::BaseFacts;
use crate::recipe::BaseSelector;

/// Asks the cloud for the base; a device of this host is looked at first.
///
/// # Errors
/// [`crate::error::Kind::Base`] where there is none, or it cannot be one.
pub async fn find_base(cloud: &dyn Cloud, selector: &BaseSelector) -> Result<BaseFacts> {
    match selector {
        BaseSelector::Device { path, arch, root_device } => {
            let device = tokio::task::block_in_place(|| disk::look(path))?;
            cloud.find_device(&device, arch.as_deref(), root_device.as_deref()).await
        }
        _ => cloud.find_base(selector).await,
    }
}
