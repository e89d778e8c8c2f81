//! A program at a terminal: `script` has the other end of it.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bakery::Bakery;

/// Longer than any answer takes on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

/// A command at a terminal.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Ends when all was shown.
    reader: Option<JoinHandle<()>>,
    /// How much of what was shown was waited for.
    read: usize,
}

impl Terminal {
    /// Starts `bakehouse` at one; `arguments` have no quotes in them.
    pub fn bakehouse(bakery: &Bakery, arguments: &str) -> Self {
        let line = format!("exec {} {arguments}", env!("CARGO_BIN_EXE_bakehouse"));
        let mut command = bakery.program(&["script", "-qefc", &line, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(Vec::new()));
        let log = shown.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                log.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, keys, shown, reader: Some(reader), read: 0 }
    }

    /// All that was shown.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until this is shown, after what was waited for before.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> &mut Self {
        let deadline = Instant::now() + LIMIT;
        loop {
            // In this order: what an ended child showed last is in what is looked at.
            let over = self.child.try_wait().unwrap();
            if over.is_some() {
                self.read_all();
            }
            let shown = self.shown();
            if let Some(at) = shown.get(self.read..).and_then(|new| new.find(text)) {
                self.read += at + text.len();
                return self;
            }
            assert!(
                Instant::now() < deadline && over.is_none(),
                "{text:?} is not shown ({over:?}):\n{shown}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) -> &mut Self {
        writeln!(self.keys, "{line}").unwrap();
        self
    }

    /// Makes the terminal go away: `script`, which has it, is killed.
    pub fn lose(mut self) {
        // `timeout` is what was started: `script` is its child.
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        let script = nix::unistd::Pid::from_raw(children.trim().parse().unwrap());
        nix::sys::signal::kill(script, nix::sys::signal::Signal::SIGKILL).unwrap();
        self.child.wait().unwrap();
    }

    fn read_all(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Waits for the end; the exit status and all that was shown.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        self.read_all();
        (status.code(), self.shown())
    }
}
