//! Files that the builder fetches for a step: https alone, and only what has the expected SHA-256.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::cache::digest_of;
use ureq::tls::{RootCerts, TlsConfig};

use crate::error::{Failure, Kind};
use crate::stop::Stop;

/// Longest silence of a server, in seconds.
const SILENCE: u64 = 60;

/// Makes sure that `target` is there with the content of that digest, fetching `url` where it is not. Blocking.
/// Several bakes may do so at once: the file appears whole, by one rename.
///
/// # Errors
/// [`Kind::Step`]: the server's answer, or another content than expected; that stopping was asked for.
pub(super) fn fetch(url: &str, sha256: &str, target: &Path, stop: &Stop) -> Result<()> {
    if let Ok(file) = std::fs::File::open(target)
        && digest_of(file).is_ok_and(|digest| digest.eq_ignore_ascii_case(sha256))
    {
        return Ok(());
    }
    if !url.starts_with("https://") {
        let failure = Failure::new(Kind::Recipe, format!("{url} is not an https URL"));
        return Err(failure.hint("give an https:// URL with its #sha256=, or a file").into());
    }
    // The certificates that this host trusts, so that a company's own authority is trusted where the host does.
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .https_only(true)
        .tls_config(tls)
        .timeout_resolve(Some(Duration::from_secs(SILENCE)))
        .timeout_connect(Some(Duration::from_secs(SILENCE)))
        .timeout_recv_response(Some(Duration::from_secs(SILENCE)))
        .user_agent(concat!("bakehouse/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let response = agent.get(url).call().map_err(|error| {
        Failure::new(Kind::Step, format!("fetching {url} failed: {error}"))
            .hint("see whether the URL is right and the builder may reach it (HTTPS_PROXY is honoured)")
    })?;
    let folder = target.parent().context("a download needs a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut file = tempfile::Builder::new()
        .prefix(".download-")
        .tempfile_in(folder)
        .with_context(|| format!("making a file in {}", folder.display()))?;
    let mut reader = response.into_body().into_reader();
    copy_verified(&mut reader, file.as_file_mut(), url, sha256, stop)?;
    file.as_file().sync_all().with_context(|| format!("writing {}", target.display()))?;
    file.persist(target).with_context(|| format!("writing {}", target.display()))?;
    Ok(())
}

/// Copies and compares the digest.
fn copy_verified(
    from: &mut dyn Read,
    to: &mut dyn Write,
    url: &str,
    sha256: &str,
    stop: &Stop,
) -> Result<()> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        if let Some(signal) = stop.signal() {
            return Err(crate::error::Interrupted(signal).into());
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::new(Kind::Step, format!("fetching {url} broke off: {error}")).into());
            }
        };
        let chunk = buffer.get(..count).unwrap_or_default();
        digest.update(chunk);
        to.write_all(chunk).with_context(|| format!("writing what {url} sends"))?;
    }
    check(url, sha256, &format!("{:x}", digest.finalize()))
}

/// Compares a digest with the one that the recipe gives.
pub(super) fn check(what: &str, expected: &str, found: &str) -> Result<()> {
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let message =
        format!("{what} is not what the recipe says: its SHA-256 is {found}, {expected} was expected");
    Err(Failure::new(Kind::Step, message)
        .hint("find out which is right: the file was replaced, or the checksum is mistyped")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    /// Hands out a byte at a time.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let (Some((first, rest)), Some(slot)) = (self.0.split_first(), buffer.first_mut()) else {
                return Ok(0);
            };
            *slot = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn only_the_expected_content_is_taken() {
        let copy = |content: &[u8], stop: &Stop| {
            let mut to = Vec::new();
            copy_verified(&mut Dripping(content), &mut to, "https://x/y", HELLO, stop).map(|()| to)
        };
        assert_eq!(copy(b"hello", &Stop::default()).unwrap(), b"hello");
        let error = copy(b"hell0", &Stop::default()).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Step);
        assert!(copy(b"", &Stop::default()).is_err());
        let stop = Stop::default();
        stop.raise(15);
        assert_eq!(crate::error::exit_status(&copy(b"hello", &stop).unwrap_err()), 143);
    }

    #[test]
    fn what_is_there_is_not_fetched_and_http_never_is() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join(HELLO).join("x.deb");
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(&target, "hello").unwrap();
        fetch("https://invalid.invalid/x.deb", HELLO, &target, &Stop::default()).unwrap();
        std::fs::write(&target, "changed").unwrap();
        let error = fetch("http://127.0.0.1:9/x.deb", HELLO, &target, &Stop::default()).unwrap_err();
        assert!(error.to_string().contains("https"));
    }
}
