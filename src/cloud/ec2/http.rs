//! The HTTP client of all calls: TLS by rustls and ring, this host's own certificates, its proxy.

use std::path::Path;

use anyhow::{Context as _, Result};
use aws_sdk_ec2::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};

use crate::error::{Failure, Kind};

/// The proxy of https calls. Plain http goes straight: so does nothing but the instance's metadata service and an
/// endpoint that somebody runs beside the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    url: String,
    /// Hosts that are reached without it, as `NO_PROXY` lists them.
    besides: String,
}

impl Proxy {
    /// What `HTTPS_PROXY`, or else `ALL_PROXY`, and `NO_PROXY` say, in capitals or not.
    pub(super) fn of_environment(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let either = |name: &str| {
            let set = lookup(&name.to_lowercase()).or_else(|| lookup(name));
            set.filter(|value| !value.trim().is_empty())
        };
        let url = either("HTTPS_PROXY").or_else(|| either("ALL_PROXY"))?;
        Some(Self { url, besides: either("NO_PROXY").unwrap_or_default() })
    }

    fn config(&self) -> Result<ProxyConfig> {
        // A URL may hold a password: it is not told.
        let config = ProxyConfig::https(self.url.as_str()).ok().with_context(|| {
            Failure::new(Kind::Usage, "the proxy of HTTPS_PROXY or ALL_PROXY is no URL of a proxy")
                .hint("write http://proxy.example:3128, or http://user:password@proxy.example:3128")
        })?;
        Ok(config.no_proxy(&self.besides))
    }
}

/// A client; with a proxy, https goes through it.
///
/// # Errors
/// [`Kind::Usage`]: the proxy's URL is none.
pub(super) fn client(proxy: Option<Proxy>) -> Result<SharedHttpClient> {
    let proxy = proxy.map_or_else(|| Ok(ProxyConfig::disabled()), |proxy| proxy.config())?;
    // A host without certificates may still speak to an http:// endpoint.
    let bundles = ["/etc/ssl/certs", "/etc/pki/tls", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"];
    let some = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some())
        || bundles.iter().any(|path| Path::new(path).exists());
    let bare = tls::TlsContext::builder().with_trust_store(tls::TrustStore::empty()).build().ok();
    let context = bare.filter(|_| !some);
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder()
            .proxy_config(proxy.clone())
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring));
        if let Some(context) = &context {
            builder.set_tls_context(context.clone());
        }
        builder.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            builder.set_sleep_impl(components.sleep_impl());
        }
        builder.build()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Option<Proxy> {
        Proxy::of_environment(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_names_the_proxy() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HTTPS_PROXY", " ")]), None);
        assert_eq!(of(&[("HTTP_PROXY", "http://p:1")]), None);
        let lower =
            of(&[("https_proxy", "http://p:1"), ("HTTPS_PROXY", "http://q:1"), ("NO_PROXY", "s3.local")]);
        assert_eq!(lower, Some(Proxy { url: "http://p:1".into(), besides: "s3.local".into() }));
        assert_eq!(of(&[("ALL_PROXY", "http://p:1")]).unwrap().url, "http://p:1");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_telling_it() {
        let error = client(of(&[("HTTPS_PROXY", "http://user:hunter2@[")])).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Usage);
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
    }
}
