//! `GetParameter` of SSM: where Amazon, Canonical and many a team say which image is the current one.

use super::api::Api;
use super::explain::{Trouble, explain};

/// A parameter as far as it is read here.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    /// `String`, `StringList` or `SecureString`, whose value is still encrypted where that was not asked for.
    pub kind: String,
    /// What it holds.
    pub value: String,
}

/// Without the value, which may be a secret.
impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameter").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Api {
    /// A parameter by its name, `NAME:VERSION`, `NAME:LABEL`, or its ARN, which one that another account shares needs.
    pub(super) async fn get_parameter(&self, name: &str) -> Result<Parameter, Trouble> {
        self.parameter(name, false).await
    }

    /// The same; a SecureString's value is decrypted, which asks for `kms:Decrypt` too where its key is not the
    /// account's `aws/ssm`.
    pub(super) async fn get_secret_parameter(&self, name: &str) -> Result<Parameter, Trouble> {
        self.parameter(name, true).await
    }

    async fn parameter(&self, name: &str, decrypt: bool) -> Result<Parameter, Trouble> {
        let answer = self
            .ssm
            .get_parameter()
            .name(name)
            .set_with_decryption(decrypt.then_some(true))
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
