//! A terminal of the sandbox's own for interactive runs, and its relay to the caller's.
//!
//! The caller's terminal itself never goes inside: what has a descriptor of it could type into it (`TIOCSTI`)
//! or change its settings for good.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::sys;

/// A pair of ends: the caller's and the program's.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    slave: OwnedFd,
}

/// Opens one, from the devpts of the root that this process is in.
pub(super) fn open() -> Result<Terminal> {
    let master =
        posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).context("opening a terminal")?;
    grantpt(&master).context("granting a terminal")?;
    unlockpt(&master).context("unlocking a terminal")?;
    let name = ptsname_r(&master).context("naming a terminal")?;
    let slave =
        nix::fcntl::open(name.as_str(), OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())
            .with_context(|| format!("opening {name}"))?;
    let master = master.as_fd().try_clone_to_owned().context("keeping a terminal")?;
    Ok(Terminal { master, slave })
}

impl Terminal {
    /// Makes it this process's controlling terminal and standard streams. The process leads a session.
    pub(super) fn become_standard(self) -> Result<()> {
        sys::process::take_terminal(self.slave.as_fd()).context("taking the terminal")?;
        nix::unistd::dup2_stdin(&self.slave).context("reading from the terminal")?;
        nix::unistd::dup2_stdout(&self.slave).context("writing to the terminal")?;
        nix::unistd::dup2_stderr(&self.slave).context("writing to the terminal")
    }
}

/// The caller's terminal in raw mode, restored when dropped.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    fn enter() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            if let Err(errno) = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw) {
                tracing::debug!("setting the terminal to raw mode: {errno}");
            }
        }
        Self { before }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(errno) = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before)
        {
            tracing::warn!("restoring the terminal: {errno}; `reset` mends it");
        }
    }
}

/// Copies between the caller's standard streams and the sandbox's terminal until the latter is closed. Blocks.
pub(super) fn relay(master: &OwnedFd) -> Result<()> {
    let raw = Raw::enter();
    fit(master);
    let mut master = File::from(master.try_clone().context("duplicating the terminal")?);
    let mut buffer = [0; 8192];
    let mut input_open = true;
    loop {
        let [from_inside, from_caller] = if input_open {
            sys::process::wait_readable([master.as_fd(), std::io::stdin().as_fd()], -1)?
        } else {
            let [readable] = sys::process::wait_readable([master.as_fd()], -1)?;
            [readable, false]
        };
        if from_inside {
            match master.read(&mut buffer) {
                // EIO: the last one inside closed it.
                Ok(0) => break,
                Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading from the sandbox's terminal"),
                Ok(count) => {
                    let mut out = std::io::stdout().lock();
                    out.write_all(buffer.get(..count).unwrap_or_default())
                        .and_then(|()| out.flush())
                        .context("writing to the terminal")?;
                }
            }
        }
        if from_caller {
            let count = nix::unistd::read(std::io::stdin(), &mut buffer).unwrap_or(0);
            // At the end of the input, ^D: what ends a shell that reads from a terminal.
            let typed = if count == 0 { &[4][..] } else { buffer.get(..count).unwrap_or_default() };
            input_open = count != 0;
            if master.write_all(typed).is_err() {
                input_open = false;
            }
        }
    }
    drop(raw);
    Ok(())
}

/// Gives the sandbox's terminal the size of the caller's, if that is one.
pub(super) fn fit(master: &OwnedFd) {
    if let Err(errno) = sys::process::copy_window_size(std::io::stdin().as_fd(), master.as_fd())
        && errno != Errno::ENOTTY
    {
        tracing::debug!("setting the terminal's size: {errno}");
    }
}
