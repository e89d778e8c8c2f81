//! `DescribeFleets`: the images that EC2 Fleets name themselves.

use aws_sdk_ec2::types::FleetStateCode;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// The fleets that launch still, each with the images of its overrides. Those of its launch templates are theirs to
    /// say. A fleet of the type `instant` is not among them: it launches once.
    pub(super) async fn fleets(&self) -> Result<Vec<(String, Vec<String>)>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_fleets()
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeFleets", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            for fleet in page.fleets() {
                use FleetStateCode::{Deleted, DeletedRunning, DeletedTerminatingInstances, Failed};
                let gone = [Deleted, DeletedRunning, DeletedTerminatingInstances, Failed];
                let Some(id) = fleet.fleet_id() else { continue };
                if !fleet.fleet_state().is_some_and(|state| gone.contains(state)) {
                    let overrides = fleet.launch_template_configs().iter().flat_map(|one| one.overrides());
                    let images = overrides.filter_map(|one| one.image_id().map(str::to_owned));
                    all.push((id.to_owned(), images.collect()));
                }
            }
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
