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
    ($service:ident, $config:expr, $calls:expr) => {
        $service::Client::from_conf(
            $service::config::Builder::from($config)
                .retry_config(RetryConfig::disabled())
                .interceptor($calls.clone())
                .build(),
        )
    };
}

impl Regions {
    pub(super) fn new(config: SdkConfig, calls: Calls) -> Self {
        Self { config, calls }
    }

    /// The clients of a Region. Nothing is asked of it yet.
    pub(super) fn api(&self, region: &str) -> Api {
        let config = self.config.to_builder().region(Region::new(region.to_owned())).build();
        Api {
            ec2: client!(aws_sdk_ec2, &config, self.calls),
            ssm: client!(aws_sdk_ssm, &config, self.calls),
            autoscaling: client!(aws_sdk_autoscaling, &config, self.calls),
            region: region.to_owned(),
        }
    }
}
