//! A command of a site's that runs, and what it came to.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::site::LIMIT;

/// A command that runs.
pub struct Running {
    pub child: Child,
    pub out: PathBuf,
    pub err: PathBuf,
    pub begun: Instant,
}

/// A command that ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has said this on its standard error, or is over.
    pub fn until_said(&mut self, what: &str) {
        let deadline = Instant::now() + LIMIT;
        while !fs::read_to_string(&self.err).unwrap().contains(what) && !self.is_over() {
            assert!(Instant::now() < deadline, "it never said {what:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    self.child.kill().unwrap();
                    break self.child.wait().unwrap();
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Ended { status, out: text(&self.out), err: text(&self.err), took: self.begun.elapsed() }
    }
}

impl Ended {
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(libc::SIGKILL)
    }

    /// That a failure is told as one: once, with what to do about it, and nothing on standard output.
    pub fn is_clear_failure(&self) -> Result<(), String> {
        let errors = self.err.lines().filter(|line| line.starts_with("error: ")).count();
        let clear = errors == 1 && !self.err.contains("panicked") && self.out.is_empty();
        if clear { Ok(()) } else { Err(format!("no clear failure: {}", self.told())) }
    }

    pub fn told(&self) -> String {
        format!("{} after {:.1?}\n{}{}", self.status, self.took, self.out, self.err)
    }
}
