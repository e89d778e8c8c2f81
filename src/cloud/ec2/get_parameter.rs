//! `GetParameter` of SSM: where Amazon, Canonical and many a team say which image is the current one.

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// A parameter's value.
    pub(super) async fn get_parameter(&self, name: &str) -> Result<String, Trouble> {
        let answer = self
            .ssm
            .get_parameter()
            .name(name)
            .send()
            .await
            .map_err(|error| explain("ssm:GetParameter", &self.region, error))?;
        Ok(answer.parameter().and_then(|parameter| parameter.value()).unwrap_or_default().to_owned())
    }
}
