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

    /// A parameter's value, and whether its data type is an image's id; none where there is no such parameter.
    pub(super) async fn parameter_seen(&self, name: &str) -> Result<Option<(String, bool)>, Trouble> {
        let sent = self.ssm.get_parameter().name(name).send().await;
        match sent.map_err(|error| explain("ssm:GetParameter", &self.region, error)) {
            Ok(answer) => Ok(answer.parameter().map(|parameter| {
                let is_image = parameter.data_type() == Some(super::put_parameter::IMAGE);
                (parameter.value().unwrap_or_default().to_owned(), is_image)
            })),
            Err(trouble) if trouble.is(&["ParameterNotFound"]) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }
}
