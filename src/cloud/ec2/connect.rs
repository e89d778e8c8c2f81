//! Settings by the SDK's standard chain, and the clients made of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::config::{AppName, Credentials, SharedHttpClient};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use super::Ec2;
use super::calls::Calls;
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

/// An HTTP client with TLS by rustls and ring, trusting this host's own certificates.
fn http_client() -> SharedHttpClient {
    // A host without certificates may still speak to an http:// endpoint.
    let bundles = ["/etc/ssl/certs", "/etc/pki/tls", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"];
    let some = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some())
        || bundles.iter().any(|path| Path::new(path).exists());
    let builder =
        aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring));
    let bare = tls::TlsContext::builder().with_trust_store(tls::TrustStore::empty()).build();
    match bare {
        Ok(context) if !some => builder.tls_context(context).build_https(),
        _ => builder.build_https(),
    }
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
    let http = http_client();
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
    } else if imds.is_none() {
        let profile = ProfileFileRegionProvider::builder().configure(&bare).build();
        loader = loader.region(
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile),
        );
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((id, secret)) = &settings.keys {
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "settings"));
    } else if imds.is_none() {
        // The standard chain's order, without the metadata service at its end.
        let chain =
            CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
                .or_else("Profile", ProfileFileCredentialsProvider::builder().configure(&bare).build())
                .or_else(
                    "WebIdentityToken",
                    WebIdentityTokenCredentialsProvider::builder().configure(&bare).build(),
                )
                .or_else("EcsContainer", EcsCredentialsProvider::builder().configure(&bare).build());
        loader = loader.credentials_provider(chain);
    }
    let config = loader.load().await;
    let Some(region) = config.region().map(ToString::to_string) else {
        return Err(Failure::new(Kind::Host, "no AWS Region is set")
            .hint("set AWS_REGION, or `region` in the profile in use; on an instance its metadata service tells it")
            .into());
    };
    let calls = Calls::default();
    let regions = Regions::new(config, calls.clone());
    let api = regions.api(&region);
    let watcher = Watcher::new(Box::new(api.clone()), Box::new(RealClock::default()));
    Ok(Ec2 {
        api,
        imds,
        settings,
        calls,
        regions,
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
