//! The clients of any Region: of the builder's own, and of those that images are copied to.

use aws_config::retry::RetryConfig;
use aws_config::{Region, SdkConfig};

use super::api::Api;
use super::calls::Calls;

/// Makes clients, all with one set of credentials and one count of calls.
pub(super) struct Regions {
    config: SdkConfig,
    calls: Calls,
}

/// A service's client: retries are [`super::retry`]'s, and each call is counted.
macro_rules! client {
    ($service:ident, $config:expr, $calls:expr $(, $setting:ident($value:expr))?) => {
        $service::Client::from_conf(
            $service::config::Builder::from($config)
                .retry_config(RetryConfig::disabled())
                .interceptor($calls.clone())
                $(.$setting($value))?
                .build(),
        )
    };
}

impl Regions {
    pub(super) fn new(config: SdkConfig, calls: Calls) -> Self {
        Self { config, calls }
    }

    /// STS, in the Region in use.
    pub(super) fn sts(&self) -> aws_sdk_sts::Client {
        client!(aws_sdk_sts, &self.config, self.calls)
    }

    /// The clients of a Region. Nothing is asked of it yet.
    pub(super) fn api(&self, region: &str) -> Api {
        let config = self.config.to_builder().region(Region::new(region.to_owned())).build();
        Api {
            ec2: client!(aws_sdk_ec2, &config, self.calls),
            ssm: client!(aws_sdk_ssm, &config, self.calls),
            autoscaling: client!(aws_sdk_autoscaling, &config, self.calls),
            // A store that only speaks S3 seldom has a name for each bucket.
            s3: client!(aws_sdk_s3, &config, self.calls, force_path_style(has_own_endpoint(&config))),
            region: region.to_owned(),
        }
    }
}

/// Whether S3 is asked somewhere else than at AWS.
fn has_own_endpoint(config: &SdkConfig) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // The configuration knows those that a profile or the settings name.
    config.endpoint_url().is_some() || set("AWS_ENDPOINT_URL_S3") || set("AWS_ENDPOINT_URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_of_the_settings_is_ones_own() {
        let config = SdkConfig::builder().endpoint_url("http://store.example").build();
        assert!(has_own_endpoint(&config));
    }
}
