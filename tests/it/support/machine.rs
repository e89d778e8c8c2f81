//! Images booted in QEMU, by software alone.

use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Half a minute on an idle machine of two processors.
const DEADLINE: Duration = Duration::from_secs(300);

/// A machine that ends with the test.
pub struct Machine {
    child: Child,
    console: mpsc::Receiver<u8>,
    said: String,
}

impl Machine {
    /// Boots what the command, QEMU or one that becomes it, boots; the console is its standard output.
    pub fn boot(mut command: Command) -> Self {
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

    /// Reads the console until it says this; all that it said.
    pub fn wait_for(&mut self, text: &str) -> &str {
        let deadline = Instant::now() + DEADLINE;
        while !self.said.ends_with(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.console.recv_timeout(left) {
                Ok(byte) => self.said.push(char::from(byte)),
                Err(error) => panic!("waiting for {text:?}: {error}; the console said:\n{}", self.said),
            }
        }
        &self.said
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Not SIGKILL, of which QEMU would not hear where `timeout` is the child.
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

/// A port of this host that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The machine's answer to `GET` of a path, once it has one.
pub fn page(port: u16, path: &str) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = ureq::get(format!("http://127.0.0.1:{port}{path}"))
            .config()
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .call();
        match answer {
            Ok(mut answer) => return answer.body_mut().read_to_string().unwrap(),
            Err(error) => assert!(Instant::now() < deadline, "asking the machine for its page: {error}"),
        }
        // QEMU takes the connection before anything listens in the machine: there is no event to wait for.
        std::thread::sleep(Duration::from_millis(200));
    }
}
