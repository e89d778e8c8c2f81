//! `DescribeInstances`: which instances run an image.

use aws_sdk_ec2::types::Instance;

use super::api::{Api, any_of};
use super::explain::{Trouble, explain};

/// Every state but `terminated`: a stopped instance may be replaced by its image.
const LIVE: [&str; 5] = ["pending", "running", "shutting-down", "stopping", "stopped"];

impl Api {
    /// The instances of these images (at most 200) that are not terminated.
    pub(super) async fn instances_of(&self, images: &[String]) -> Result<Vec<Instance>, Trouble> {
        let live = LIVE.map(str::to_owned);
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_instances()
                .filters(any_of("image-id", images))
                .filters(any_of("instance-state-name", &live))
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeInstances", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(
                page.reservations
                    .unwrap_or_default()
                    .into_iter()
                    .flat_map(|one| one.instances.unwrap_or_default()),
            );
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
