//! `DescribeParameters` of SSM: those that may hold images.

use aws_sdk_ssm::types::ParameterStringFilter;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// One page of the names of this account's parameters whose values are no secrets, of whatever data type, and the
    /// token of the next one.
    pub(super) async fn plain_parameters(
        &self,
        from: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), Trouble> {
        let filter = ParameterStringFilter::builder().key("Type").values("String").values("StringList");
        let page = self
            .ssm
            .describe_parameters()
            .set_parameter_filters(filter.build().ok().map(|filter| vec![filter]))
            .max_results(50)
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| explain("ssm:DescribeParameters", &self.region, error))?;
        let next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        let names = page.parameters().iter().filter_map(|one| one.name()).map(str::to_owned);
        Ok((names.collect(), next))
    }
}
