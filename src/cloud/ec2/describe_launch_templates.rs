//! `DescribeLaunchTemplates`.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// The ids of all launch templates.
    pub(super) async fn launch_templates(&self) -> Result<Vec<String>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_launch_templates()
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeLaunchTemplates", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(
                page.launch_templates().iter().filter_map(|one| one.launch_template_id()).map(str::to_owned),
            );
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
