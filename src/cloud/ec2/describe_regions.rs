//! `DescribeRegions`.

use std::collections::BTreeMap;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// All Regions, and whether this account may use each.
    pub(super) async fn all_regions(&self) -> Result<BTreeMap<String, bool>, Trouble> {
        let answer = self
            .ec2
            .describe_regions()
            .all_regions(true)
            .send()
            .await
            .map_err(|error| explain("ec2:DescribeRegions", &self.region, error))?;
        let regions = answer.regions().iter();
        let known = regions.filter_map(|region| {
            Some((region.region_name()?.to_owned(), region.opt_in_status() != Some("not-opted-in")))
        });
        Ok(known.collect())
    }
}
