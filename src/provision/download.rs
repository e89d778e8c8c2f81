//! Files that the builder fetches for a step: https alone, and only what has the expected SHA-256.

use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use sha2::{Digest as _, Sha256};
use ureq::tls::{RootCerts, TlsConfig};

use super::cache::digest_of;
use crate::error::{Failure, Kind};
use crate::folder::with_folder;
use crate::provisioner::StagedFile;
use crate::stop::Stop;

/// How the names of files begin that are not whole yet.
pub(super) const PART: &str = ".download-";
/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(60);
/// How often is looked whether stopping was asked for.
const GLANCE: Duration = Duration::from_millis(100);
/// The waits before what failed for a moment is asked for again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

const UNREACHED: &str = "see whether the URL is right and the builder may reach it (HTTPS_PROXY is honoured)";
const UNTRUSTED: &str = "the builder does not trust the server's certificate: see the URL; a company's own authority is trusted \
                         once the builder's /etc/ssl/certs has it, or SSL_CERT_FILE names it";

/// Makes sure that a staged file that is a URL is there, fetching it where it is not. Blocking. Several bakes may do so
/// at once: the file appears whole, by one rename. What fails for a moment is asked for three times.
///
/// # Errors
/// [`Kind::Recipe`]: no checksum, or no https; [`Kind::Step`]: the server's answer, or another content than
/// expected; that stopping was asked for.
pub fn fetch_staged(staged: &StagedFile, stop: &Stop) -> Result<()> {
    match (&staged.url, &staged.sha256) {
        (Some(url), Some(sha256)) => fetch(url, sha256, &staged.from, stop),
        (Some(url), None) => {
            Err(Failure::new(Kind::Recipe, format!("{url} has no checksum")).hint("add #sha256=HEX").into())
        }
        (None, _) => Ok(()),
    }
}

/// Whether the builder has what it fetched once: a file appears whole, so only a checksum can tell otherwise. It is
/// made young before it is read, so that `gc` leaves it while it is used, and one that `gc` removes meanwhile is not
/// there. Blocking.
///
/// # Errors
/// What keeps it from being read.
pub fn is_kept(path: &Path, sha256: Option<&str>) -> Result<bool> {
    let what = || format!("reading {}", path.display());
    let file = match std::fs::File::open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        file => file.with_context(what)?,
    };
    if !file.metadata().with_context(what)?.is_file() {
        return Ok(false);
    }
    file.set_modified(std::time::SystemTime::now()).ok();
    if let Some(sha256) = sha256
        && !digest_of(&file).with_context(what)?.eq_ignore_ascii_case(sha256)
    {
        return Ok(false);
    }
    Ok(file.metadata().with_context(what)?.nlink() > 0)
}

fn fetch(url: &str, sha256: &str, target: &Path, stop: &Stop) -> Result<()> {
    if is_kept(target, Some(sha256)).unwrap_or_default() {
        return Ok(());
    }
    if !url.starts_with("https://") {
        let failure = Failure::new(Kind::Recipe, format!("{url} is not an https URL"));
        return Err(failure.hint("give an https:// URL with its #sha256=, or a file").into());
    }
    // Beside the folder that it gets, so that there is none of what could not be had.
    let folder = target.parent().context("a download needs a folder")?;
    let around = folder.parent().unwrap_or(folder);
    std::fs::create_dir_all(around).with_context(|| format!("making {}", around.display()))?;
    let new = || {
        tempfile::Builder::new()
            .prefix(PART)
            .tempfile_in(around)
            .with_context(|| format!("making a file in {}", around.display()))
    };
    let mut pauses = PAUSES.into_iter();
    let mut file = loop {
        let mut file = new()?;
        let content = receive(url.to_owned(), open)?;
        match (copy_verified(&content, file.as_file_mut(), url, sha256, SILENCE, stop), pauses.next()) {
            (Ok(()), _) => break file,
            (Err(Trouble { error, passes: true }), Some(pause)) => {
                tracing::warn!("{error}; asking again in {} s", pause.as_secs());
                wait(pause, stop)?;
            }
            (Err(Trouble { error, .. }), _) => return Err(error),
        }
    };
    file.as_file().sync_all().with_context(|| format!("writing {}", target.display()))?;
    with_folder(folder, || std::fs::rename(file.path(), target))
        .with_context(|| format!("writing {}", target.display()))?;
    file.disable_cleanup(true);
    Ok(())
}

/// Why nothing came, and whether it may come when it is asked for again.
struct Trouble {
    error: anyhow::Error,
    passes: bool,
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self { error, passes: false }
    }
}

fn wait(pause: Duration, stop: &Stop) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < pause {
        stop.check()?;
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

/// Whether a server may answer otherwise the next time.
fn passes(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => matches!(status, 408 | 429 | 500..),
        ureq::Error::Timeout(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        // A certificate that is not trusted comes as one too.
        // The standard library tells a resolver's refusal, lasting or not, by these words alone.
        ureq::Error::Io(error) if error.to_string().starts_with("failed to lookup address information") => {
            true
        }
        ureq::Error::Io(error) => {
            use ErrorKind::{
                BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
                NetworkDown, NetworkUnreachable, TimedOut, UnexpectedEof,
            };
            matches!(
                error.kind(),
                BrokenPipe
                    | ConnectionAborted
                    | ConnectionRefused
                    | ConnectionReset
                    | HostUnreachable
                    | NetworkDown
                    | NetworkUnreachable
                    | TimedOut
                    | UnexpectedEof
            )
        }
        _ => false,
    }
}

/// Asks for a URL; what reads the answer's content.
fn open(url: &str) -> Result<impl Read + use<>, Trouble> {
    // The certificates that this host trusts, so that a company's own authority is trusted where the host does.
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .https_only(true)
        .tls_config(tls)
        .timeout_resolve(Some(SILENCE))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .user_agent(concat!("bakehouse/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let response = agent.get(url).call().map_err(|error| {
        let told = error.to_string();
        let hint = if told.contains("certificate") { UNTRUSTED } else { UNREACHED };
        let failure = Failure::new(Kind::Step, format!("fetching {url} failed: {told}")).hint(hint);
        Trouble { error: failure.into(), passes: passes(&error) }
    })?;
    Ok(response.into_body().into_reader())
}

/// What comes of a server, in this order.
enum Piece {
    Answered,
    Content(Vec<u8>),
    End,
}

type Heard = Result<Piece, Trouble>;

/// Opens and reads in a thread of its own, which may wait for the server for as long as that likes: nothing waits for
/// the thread.
fn receive<R: Read>(
    url: String,
    open: impl FnOnce(&str) -> Result<R, Trouble> + Send + 'static,
) -> Result<Receiver<Heard>> {
    let (to, from) = sync_channel(4);
    let work = move || {
        let sent = match open(&url) {
            Ok(reader) => to.send(Ok(Piece::Answered)).and_then(|()| pass_on(reader, &url, &to)),
            Err(error) => to.send(Err(error)),
        };
        // Where it could not be sent, nobody wants it any more.
        drop(sent);
    };
    std::thread::Builder::new().name("fetch".to_owned()).spawn(work).context("starting a thread")?;
    Ok(from)
}

fn pass_on(mut reader: impl Read, url: &str, to: &SyncSender<Heard>) -> Result<(), SendError<Heard>> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return to.send(Ok(Piece::End)),
            Ok(count) => to.send(Ok(Piece::Content(buffer.get(..count).unwrap_or_default().to_vec())))?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return to.send(Err(broke_off(url, &error))),
        }
    }
}

fn broke_off(url: &str, why: &dyn Display) -> Trouble {
    let failure = Failure::new(Kind::Step, format!("fetching {url} broke off: {why}"));
    Trouble { error: failure.hint("bake again: nothing of it was kept").into(), passes: true }
}

/// Copies and compares the digest.
fn copy_verified(
    from: &Receiver<Heard>,
    to: &mut dyn Write,
    url: &str,
    sha256: &str,
    silence: Duration,
    stop: &Stop,
) -> Result<(), Trouble> {
    let mut digest = Sha256::new();
    // Until the server answers the client's own limits hold.
    let mut heard = None;
    loop {
        stop.check()?;
        match from.recv_timeout(GLANCE) {
            Ok(piece) => match piece? {
                Piece::Answered => {}
                Piece::Content(content) => {
                    digest.update(&content);
                    to.write_all(&content).with_context(|| format!("writing what {url} sends"))?;
                }
                Piece::End => break,
            },
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("fetching {url} ended without a word").into());
            }
            Err(RecvTimeoutError::Timeout) => {
                if heard.is_some_and(|heard: Instant| heard.elapsed() >= silence) {
                    let why = format!("nothing was sent for {} s", silence.as_secs());
                    return Err(broke_off(url, &why));
                }
                continue;
            }
        }
        heard = Some(Instant::now());
    }
    Ok(check(url, sha256, &format!("{:x}", digest.finalize()))?)
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

    #[test]
    fn what_gc_removes_while_it_is_read_is_not_there() {
        use std::os::fd::AsRawFd as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        assert!(!is_kept(&path, None).unwrap() && !is_kept(folder.path(), None).unwrap());
        std::fs::write(&path, "hello").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(is_kept(&path, None).unwrap() && is_kept(&path, Some(&HELLO.to_uppercase())).unwrap());
        assert!(file.metadata().unwrap().modified().unwrap() > std::time::UNIX_EPOCH, "it is young again");
        assert!(!is_kept(&path, Some(&"0".repeat(64))).unwrap());
        // Opened while it was there still.
        std::fs::remove_file(&path).unwrap();
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert!(!is_kept(Path::new(&opened), Some(HELLO)).unwrap());
    }

    /// Hands out a byte at a time, and then what comes of the channel: silence while nobody sends.
    struct Dripping(&'static [u8], Receiver<()>);

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let (Some((first, rest)), Some(slot)) = (self.0.split_first(), buffer.first_mut()) else {
                return self.1.recv().map_or(Ok(0), |()| Err(ErrorKind::ConnectionReset.into()));
            };
            *slot = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    /// What is taken of such content; the sender for what follows it.
    fn dripping(content: &'static [u8]) -> (SyncSender<()>, Receiver<Heard>) {
        let (more, rest) = sync_channel(1);
        (more, receive("https://x/y".into(), move |_| Ok(Dripping(content, rest))).unwrap())
    }

    fn copy(from: &Receiver<Heard>, silence: u64, stop: &Stop) -> Result<Vec<u8>> {
        let mut to = Vec::new();
        let silence = Duration::from_millis(silence);
        let copied = copy_verified(from, &mut to, "https://x/y", HELLO, silence, stop);
        copied.map(|()| to).map_err(|trouble| trouble.error)
    }

    #[test]
    fn only_the_expected_content_is_taken() {
        let ended = |content| dripping(content).1;
        assert_eq!(copy(&ended(b"hello"), 60_000, &Stop::default()).unwrap(), b"hello");
        let error = copy(&ended(b"hell0"), 60_000, &Stop::default()).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Step);
        assert!(copy(&ended(b""), 60_000, &Stop::default()).is_err());
    }

    #[test]
    fn a_server_that_breaks_off_or_falls_silent_is_told_and_stopping_waits_for_none() {
        let (more, from) = dripping(b"hel");
        more.send(()).unwrap();
        let error = copy(&from, 60_000, &Stop::default()).unwrap_err();
        assert!(error.to_string().starts_with("fetching https://x/y broke off: "), "{error:#}");
        let (_more, from) = dripping(b"hel");
        let error = copy(&from, 1, &Stop::default()).unwrap_err();
        assert!(error.to_string().contains("nothing was sent for"), "{error:#}");
        let (_more, from) = dripping(b"hel");
        let stop = Stop::default();
        stop.raise(15);
        assert_eq!(crate::error::exit_status(&copy(&from, 60_000, &stop).unwrap_err()), 143);
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

    #[test]
    fn what_keeps_a_connection_from_being_made_may_pass_and_distrust_does_not() {
        use ErrorKind::{
            ConnectionRefused, HostUnreachable, InvalidData, NetworkDown, NetworkUnreachable,
            PermissionDenied, TimedOut,
        };
        let passing = |kind: &ErrorKind| passes(&ureq::Error::Io((*kind).into()));
        let all = [ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut];
        assert_eq!(all.iter().filter(|kind| !passing(kind)).collect::<Vec<_>>(), [&TimedOut; 0]);
        assert!(![InvalidData, PermissionDenied].iter().any(passing));
        let resolver = "failed to lookup address information: Temporary failure in name resolution";
        assert!(passes(&ureq::Error::Io(std::io::Error::other(resolver))));
        assert!(!passes(&ureq::Error::Io(std::io::Error::other("invalid peer certificate: UnknownIssuer"))));
    }
}
