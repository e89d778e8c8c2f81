//! `DescribeSpotFleetRequests`: the images that Spot Fleets name themselves.

use aws_sdk_ec2::types::BatchState;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// The Spot Fleets that launch still, each with the images of its launch specifications.
    pub(super) async fn spot_fleets(&self) -> Result<Vec<(String, Vec<String>)>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_spot_fleet_requests()
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeSpotFleetRequests", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            for fleet in page.spot_fleet_request_configs() {
                use BatchState::{Cancelled, CancelledRunning, CancelledTerminatingInstances, Failed};
                let gone = [Cancelled, CancelledRunning, CancelledTerminatingInstances, Failed];
                let Some(id) = fleet.spot_fleet_request_id() else { continue };
                if !fleet.spot_fleet_request_state().is_some_and(|state| gone.contains(state)) {
                    let config = fleet.spot_fleet_request_config().into_iter();
                    let specifications = config.flat_map(|config| config.launch_specifications());
                    let images = specifications.filter_map(|one| one.image_id().map(str::to_owned));
                    all.push((id.to_owned(), images.collect()));
                }
            }
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
