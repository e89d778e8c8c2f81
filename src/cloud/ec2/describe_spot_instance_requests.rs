//! `DescribeSpotInstanceRequests`: which Spot requests are for an image.

use aws_sdk_ec2::types::{SpotInstanceRequest, SpotInstanceState};

use super::api::{Api, any_of};
use super::explain::{Trouble, explain};

impl Api {
    /// The requests for these images (at most 200) that may launch an instance: one that is active and persistent does
    /// so again, and a stopped instance's is `disabled`.
    pub(super) async fn spot_requests_for(
        &self,
        images: &[String],
    ) -> Result<Vec<SpotInstanceRequest>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_spot_instance_requests()
                .filters(any_of("launch.image-id", images))
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeSpotInstanceRequests", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(page.spot_instance_requests.unwrap_or_default().into_iter().filter(|one| {
                use SpotInstanceState::{Cancelled, Closed, Failed};
                !one.state().is_some_and(|state| [Cancelled, Closed, Failed].contains(state))
            }));
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
