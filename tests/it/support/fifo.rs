//! Named pipes: where a program that is baked with waits for the test, and the test for it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

/// Longer than any program of a test takes to come to where it waits.
const LIMIT: Duration = Duration::from_secs(120);

/// A named pipe.
pub struct Fifo(PathBuf);

impl Fifo {
    pub fn make(path: PathBuf) -> Self {
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        Self(path)
    }

    /// What somebody writes, up to where it is closed.
    #[track_caller]
    pub fn read(&self) -> String {
        // Opened so that the test waits for the text and not for a writer, which may never come.
        let mut pipe =
            std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&self.0).unwrap();
        let (mut text, mut bytes, until) = (Vec::new(), [0; 256], Instant::now() + LIMIT);
        while text.last() != Some(&b'\n') {
            match pipe.read(&mut bytes) {
                Ok(count @ 1..) => text.extend_from_slice(&bytes[..count]),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(Instant::now() < until, "nobody wrote to {}", self.0.display());
        }
        String::from_utf8(text).unwrap()
    }

    /// Writes a line for somebody who reads, or is about to.
    #[track_caller]
    pub fn write(&self, text: &str) {
        let until = Instant::now() + LIMIT;
        loop {
            let pipe = std::fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.0);
            match pipe {
                Ok(mut pipe) => return pipe.write_all(text.as_bytes()).unwrap(),
                // Nobody has it open for reading yet.
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(Instant::now() < until, "nobody reads {}", self.0.display());
        }
    }
}
