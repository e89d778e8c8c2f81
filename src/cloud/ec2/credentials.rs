//! Whose credentials the calls are made with.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::SharedCredentialsProvider;

/// A role to take on (`sts:AssumeRole`) with the credentials that the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// `arn:aws:iam::123456789012:role/baker`.
    pub arn: String,
    /// What the role's trust policy asks for, where another account trusts this one.
    pub external_id: Option<String>,
    /// The session's name, as CloudTrail shows it.
    pub session_name: String,
    /// The session's tags; `sts:TagSession` must be allowed where there are any.
    pub tags: Vec<(String, String)>,
    /// For how long the credentials last: 15 minutes to the role's maximum, an hour by default. They are renewed
    /// before they end. <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
    pub duration: Option<Duration>,
}

/// The standard chain's order, without the metadata service at its end.
pub(super) fn without_metadata(config: &ProviderConfig) -> CredentialsProviderChain {
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Profile", ProfileFileCredentialsProvider::builder().configure(config).build())
        .or_else("WebIdentityToken", WebIdentityTokenCredentialsProvider::builder().configure(config).build())
        .or_else("EcsContainer", EcsCredentialsProvider::builder().configure(config).build())
}

/// A profile that somebody named: its credentials, and no others.
pub(super) fn of_profile(name: &str, config: &ProviderConfig) -> ProfileFileCredentialsProvider {
    ProfileFileCredentialsProvider::builder().configure(config).profile_name(name).build()
}

/// The same configuration with the role's credentials. They are asked for with the first call.
pub(super) async fn take_on(role: &Role, config: SdkConfig) -> SdkConfig {
    let mut builder =
        AssumeRoleProvider::builder(&role.arn).configure(&config).session_name(&role.session_name);
    if let Some(id) = &role.external_id {
        builder = builder.external_id(id);
    }
    if !role.tags.is_empty() {
        builder = builder.tags(role.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    if let Some(duration) = role.duration {
        builder = builder.session_length(duration);
    }
    let provider = SharedCredentialsProvider::new(builder.build().await);
    config.into_builder().credentials_provider(provider).build()
}
