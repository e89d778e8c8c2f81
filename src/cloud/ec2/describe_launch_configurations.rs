//! Auto Scaling's `DescribeLaunchConfigurations`.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// All launch configurations: name and image.
    pub(super) async fn launch_configurations(&self) -> Result<Vec<(String, String)>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .autoscaling
                .describe_launch_configurations()
                .max_records(100)
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("autoscaling:DescribeLaunchConfigurations", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(page.launch_configurations().iter().filter_map(|one| {
                Some((one.launch_configuration_name()?.to_owned(), one.image_id()?.to_owned()))
            }));
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
