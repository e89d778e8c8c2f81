//! Auto Scaling's `DescribeAutoScalingGroups`.

use aws_sdk_autoscaling::types::AutoScalingGroup;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// All Auto Scaling groups, their instances left out.
    pub(super) async fn auto_scaling_groups(&self) -> Result<Vec<AutoScalingGroup>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .autoscaling
                .describe_auto_scaling_groups()
                .include_instances(false)
                .max_records(100)
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("autoscaling:DescribeAutoScalingGroups", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(page.auto_scaling_groups.unwrap_or_default());
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
