//! `GetParameter` of SSM: where Amazon, Canonical and many a team say which image is the current one.

use super::api::Api;
use super::explain::{Trouble, explain};

/// A parameter as far as a base is read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    /// `String`, `StringList` or `SecureString`, whose value is still encrypted.
    pub kind: String,
    /// What it holds.
    pub value: String,
}

impl Api {
    /// A parameter by its name, `NAME:VERSION`, `NAME:LABEL`, or its ARN, which one that another account shares needs.
    pub(super) async fn get_parameter(&self, name: &str) -> Result<Parameter, Trouble> {
        let answer = self
            .ssm
            .get_parameter()
            .name(name)
            .send()
            .await
            .map_err(|error| explain("ssm:GetParameter", &self.region, error))?;
        let parameter = answer.parameter();
        let kind = parameter.and_then(|parameter| parameter.r#type());
        let value = parameter.and_then(|parameter| parameter.value());
        Ok(Parameter {
            kind: kind.map_or_else(String::new, |kind| kind.as_str().to_owned()),
            value: value.unwrap_or_default().to_owned(),
        })
    }
}
