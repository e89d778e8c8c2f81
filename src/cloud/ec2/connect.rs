//! Settings by the SDK's standard chain, and the clients made of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::config::{AppName, Credentials};

use super::Ec2;
use super::calls::Calls;
use super::credentials::{self, Role};
use super::decode_authorization_message::Decoder;
use super::http;
use super::regions::Regions;
use super::watch::{RealClock, Watcher};
use crate::error::{Failure, Kind};

/// How the EC2 room behaves. What is not here comes from the environment, the profile and the instance, by the
/// SDK's standard chain (`AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_EC2`, …).
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Region, before all that the chain says.
    pub region: Option<String>,
    /// The endpoint of every AWS service, before all that the chain says.
    pub endpoint: Option<String>,
    /// Where [`crate::cloud::Cloud::place`] asks the instance metadata service, before all that the chain says;
    /// credentials come from where `AWS_EC2_METADATA_SERVICE_ENDPOINT` says.
    pub metadata_endpoint: Option<String>,
    /// The profile of `~/.aws`, before the environment's credentials and Region.
    pub profile: Option<String>,
    /// The role to take on with the credentials that were found.
    pub role: Option<Role>,
    /// Access key id and secret access key, instead of the chain's.
    pub keys: Option<(String, String)>,
    /// Whether the instance metadata service may be asked. Left alone where this host is no instance: nothing
    /// answers there, and waiting for it costs seconds.
    pub metadata: bool,
    /// Where device names are locked, one file a name, for all bakes of this host.
    pub device_locks: PathBuf,
    /// The time for one try of a call.
    pub attempt: Duration,
    /// The deadline over all tries of a call (throttling, lost replies).
    pub call: Duration,
    /// How many times a call is made whose reply was lost or whose endpoint does not answer.
    pub tries: u32,
    /// The deadline for a new volume to be available.
    pub volume: Duration,
    /// The deadline for an attachment or a detachment.
    pub attachment: Duration,
    /// The deadline for a snapshot.
    pub snapshot: Duration,
    /// The deadline for a registered image to be available.
    pub image: Duration,
    /// The deadline for a copy in another Region to be available; a time-based one has an hour more than it asks for.
    pub copy: Duration,
    /// For how long a resource just made may be unknown to Describe calls.
    pub visible: Duration,
    /// For how long a resource whose making was announced, but never confirmed, is looked for.
    pub lookup: Duration,
    /// When to look first for a volume, an attachment, a detachment or an image.
    pub first: Duration,
    /// When to look first for a snapshot.
    pub first_snapshot: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            metadata_endpoint: None,
            profile: None,
            role: None,
            keys: None,
            metadata: on_instance(),
            device_locks: PathBuf::from("/run/bakehouse/devices"),
            attempt: Duration::from_secs(30),
            call: Duration::from_secs(300),
            tries: 6,
            volume: Duration::from_secs(300),
            attachment: Duration::from_secs(180),
            snapshot: Duration::from_secs(4 * 3600),
            image: Duration::from_secs(900),
            copy: Duration::from_secs(4 * 3600),
            visible: Duration::from_secs(120),
            lookup: Duration::from_secs(10),
            first: Duration::from_millis(500),
            first_snapshot: Duration::from_secs(2),
        }
    }
}

/// Whether this host is an EC2 instance, as DMI's `sys_vendor` or a set `AWS_EC2_METADATA_SERVICE_ENDPOINT` says.
/// Asks nothing over the network.
pub fn on_instance() -> bool {
    metadata_endpoint_set() || dmi_says_ec2(Path::new("/sys/class/dmi/id"))
}

/// Whether `AWS_EC2_METADATA_SERVICE_ENDPOINT` is set.
pub fn metadata_endpoint_set() -> bool {
    std::env::var_os("AWS_EC2_METADATA_SERVICE_ENDPOINT").is_some_and(|value| !value.is_empty())
}

/// Nitro says `Amazon EC2`; Xen says `Xen` and has a BIOS version such as `4.11.amazon`.
fn dmi_says_ec2(folder: &Path) -> bool {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    read("sys_vendor").trim() == "Amazon EC2" || read("bios_version").trim().ends_with(".amazon")
}

fn metadata_client(settings: &Settings, config: &ProviderConfig) -> Result<aws_config::imds::Client> {
    let mut builder = aws_config::imds::Client::builder()
        .configure(config)
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(2))
        .max_attempts(3);
    if let Some(endpoint) = &settings.metadata_endpoint {
        builder = builder.endpoint(endpoint).map_err(|error| anyhow!(error)).with_context(|| {
            Failure::new(Kind::Usage, format!("{endpoint} is no address of a metadata service"))
        })?;
    }
    Ok(builder.build())
}

/// Connects: settles Region and credentials; no call of EC2 yet.
///
/// # Errors
/// [`Kind::Host`] when no Region is set anywhere.
pub(super) async fn connect(settings: Settings) -> Result<Ec2> {
    let http = http::client(http::Proxy::of_environment(|name| std::env::var(name).ok()))?;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5).min(settings.attempt))
        .operation_attempt_timeout(settings.attempt)
        .build();
    let bare = ProviderConfig::without_region().with_http_client(http.clone());
    let imds = if settings.metadata { Some(metadata_client(&settings, &bare)?) } else { None };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .timeout_config(timeouts)
        .app_name(AppName::new("bakehouse")?);
    if let Some(region) = settings.region.clone() {
        loader = loader.region(Region::new(region));
    } else if settings.profile.is_none() && imds.is_none() {
        let profile = ProfileFileRegionProvider::builder().configure(&bare).build();
        loader = loader.region(
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile),
        );
    } else if let Some(profile) = &settings.profile {
        let named = ProfileFileRegionProvider::builder().configure(&bare).profile_name(profile).build();
        let chain = RegionProviderChain::first_try(named).or_else(EnvironmentVariableRegionProvider::new());
        loader =
            match imds.clone() {
                Some(imds) => loader.region(chain.or_else(
                    aws_config::imds::region::ImdsRegionProvider::builder().imds_client(imds).build(),
                )),
                None => loader.region(chain),
            };
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((id, secret)) = &settings.keys {
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "settings"));
    } else if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile).credentials_provider(credentials::of_profile(profile, &bare));
    } else if imds.is_none() {
        loader = loader.credentials_provider(credentials::without_metadata(&bare));
    }
    let config = loader.load().await;
    let Some(region) = config.region().map(ToString::to_string) else {
        return Err(Failure::new(Kind::Host, "no AWS Region is set")
            .hint("set AWS_REGION, or `region` in the profile in use; on an instance its metadata service tells it")
            .into());
    };
    let config = match &settings.role {
        Some(role) => credentials::take_on(role, config).await,
        None => config,
    };
    let calls = Calls::default();
    let regions = Regions::new(config, calls.clone());
    let decoder = Decoder { sts: regions.sts() };
    let api = regions.api(&region);
    let watcher = Watcher::new(Box::new(api.clone()), Box::new(RealClock::default()));
    Ok(Ec2 {
        api,
        imds,
        settings,
        calls,
        regions,
        decoder,
        watcher,
        place: tokio::sync::OnceCell::new(),
        held: std::sync::Mutex::default(),
        seen: std::sync::Mutex::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nitro_and_xen_are_told_by_dmi() {
        for (name, value, ec2) in [
            ("sys_vendor", "Amazon EC2\n", true),
            ("bios_version", "4.11.amazon\n", true),
            ("sys_vendor", "QEMU\n", false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), value).unwrap();
            assert_eq!(dmi_says_ec2(folder.path()), ec2, "{name} {value}");
        }
    }
}
