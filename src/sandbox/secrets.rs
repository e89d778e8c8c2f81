//! A run's secrets: files on a tmpfs of their own inside. It goes with the run's mounts, and nothing of it was
//! ever on a disk.

use std::fmt;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};

/// A secret of a run: `/run/bakehouse/secrets/NAME`, root's, mode 0400.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Secret {
    /// The file's name.
    pub name: String,
    /// The file's content.
    pub content: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Puts them into the sandbox's own /run.
pub(super) fn provide(run: &OwnedFd, secrets: &[Secret]) -> Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    let making = "making /run/bakehouse";
    mkdirat(run, "bakehouse", Mode::from_bits_truncate(0o755)).context(making)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    provide_in(&openat(run, "bakehouse", flags, Mode::empty()).context(making)?, secrets)
}

/// Puts them into a `/run/bakehouse`.
pub(super) fn provide_in(bakehouse: &OwnedFd, secrets: &[Secret]) -> Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    let own = memory().context("making a tmpfs for secrets")?;
    for secret in secrets {
        let what = || format!("providing the secret {}", secret.name);
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file =
            openat(&own, secret.name.as_str(), flags, Mode::from_bits_truncate(0o400)).with_context(what)?;
        std::fs::File::from(file).write_all(&secret.content).with_context(what)?;
    }
    mount::set_attributes(own.as_fd(), RDONLY, false).context("closing the tmpfs for secrets")?;
    let making = "making the folder of secrets";
    mkdirat(bakehouse, "secrets", Mode::from_bits_truncate(0o755)).context(making)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let place = openat(bakehouse, "secrets", flags, Mode::empty()).context(making)?;
    mount::attach(own.as_fd(), place.as_fd()).context("mounting the tmpfs for secrets")
}

/// A tmpfs that is never swapped out, where the kernel has that (Linux 6.3).
fn memory() -> nix::Result<OwnedFd> {
    let attributes = NOSUID | NODEV | NOEXEC;
    let mode = (c"mode", c"0755");
    match mount::new_filesystem(c"tmpfs", &[mode, (c"noswap", c"")], attributes) {
        Err(Errno::EINVAL) => mount::new_filesystem(c"tmpfs", &[mode], attributes),
        other => other,
    }
}
