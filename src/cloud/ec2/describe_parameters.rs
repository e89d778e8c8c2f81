//! `DescribeParameters` of SSM: those that hold images.

use aws_sdk_ssm::types::ParameterStringFilter;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// The names of this account's parameters of the data type `aws:ec2:image`.
    pub(super) async fn image_parameters(&self) -> Result<Vec<String>, Trouble> {
        let filter = ParameterStringFilter::builder().key("DataType").values("aws:ec2:image").build();
        let filter = filter.ok();
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ssm
                .describe_parameters()
                .set_parameter_filters(filter.clone().map(|filter| vec![filter]))
                .max_results(50)
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ssm:DescribeParameters", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(page.parameters().iter().filter_map(|one| one.name()).map(str::to_owned));
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
