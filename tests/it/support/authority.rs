//! A certificate authority of a test's own, made by the real tool.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::host::run;

/// The program that it needs, for [`super::host::has`].
pub const NEEDED: &str = "openssl";

/// An authority, and one server that it vouches for: `localhost`.
pub struct Authority(tempfile::TempDir);

impl Authority {
    pub fn new() -> Self {
        let this = Self(tempfile::Builder::new().prefix("authority-").tempdir().unwrap());
        let path = |name: &str| this.path(name).to_str().unwrap().to_owned();
        let (key, certificate, request) = (path("ca.key"), path("ca.pem"), path("server.csr"));
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let common = [&["req"], &new_key[..]].concat();
        let own =
            ["-x509", "-days", "2", "-subj", "/CN=A test's authority", "-keyout", &key, "-out", &certificate];
        run("openssl", &[&common, &own[..]].concat());
        let own = ["-subj", "/CN=localhost", "-keyout", &path("server.key"), "-out", &request];
        run("openssl", &[&common, &own[..]].concat());
        let names = path("names");
        std::fs::write(&names, "subjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n").unwrap();
        let sign = ["x509", "-req", "-days", "2", "-in", &request, "-CA", &certificate, "-CAkey", &key];
        let out = ["-CAcreateserial", "-extfile", &names, "-out", &path("server.pem")];
        run("openssl", &[&sign[..], &out].concat());
        this
    }

    /// Its own certificate: what `SSL_CERT_FILE` names where it is to be trusted.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// What its server speaks.
    pub fn server(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(self.path("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
