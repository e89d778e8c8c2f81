//! Images booted in QEMU, by software alone, to a login prompt.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::bases::{self, debian_base, store_with};
use crate::support::host::has;

/// Half a minute on an idle machine of two processors.
const DEADLINE: Duration = Duration::from_secs(300);

/// A machine that ends with the test.
struct Machine {
    child: Child,
    console: mpsc::Receiver<u8>,
    said: String,
}

impl Machine {
    fn boot(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, console) = mpsc::channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut error = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            while let Ok(bytes) = output.fill_buf()
                && !bytes.is_empty()
            {
                let count = bytes.len();
                for byte in bytes {
                    if sender.send(*byte).is_err() {
                        return;
                    }
                }
                output.consume(count);
            }
            let mut said = String::new();
            error.read_to_string(&mut said).unwrap_or_default();
            eprintln!("{said}");
        });
        Self { child, console, said: String::new() }
    }

    /// Reads the console until it says this.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.said.ends_with(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.console.recv_timeout(left) {
                Ok(byte) => self.said.push(char::from(byte)),
                Err(error) => panic!("waiting for {text:?}: {error}; the console said:\n{}", self.said),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_debian_foundation_boots_to_a_login_prompt() {
    if !has(&[bases::NEEDED, &["qemu-system-x86_64"]].concat()) {
        return;
    }
    let base = debian_base();
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), "debian-12", &base);
    let disk = store.disk_of(&store.image("debian-12").unwrap());
    let before = std::fs::metadata(&disk).unwrap().modified().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bakehouse"));
    command
        .args(["local", "boot", "debian-12", "--memory", "512", "--store"])
        .arg(folder.path())
        .args(["--", "-monitor", "none"]);
    let mut machine = Machine::boot(command);
    machine.wait_for("debian login:");
    drop(machine);
    assert_eq!(std::fs::metadata(&disk).unwrap().modified().unwrap(), before, "nothing was written");
}
