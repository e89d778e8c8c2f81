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

/// The machine's answer to `GET /`, once it has one.
fn page(port: u16) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = ureq::get(format!("http://127.0.0.1:{port}/"))
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

#[test]
fn the_examples_image_boots_to_a_login_prompt_and_its_service_answers() {
    if !has(&[bases::NEEDED, &["qemu-system-x86_64"]].concat()) {
        return;
    }
    let base = debian_base();
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), "debian-12", &base);
    let bakehouse = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakehouse"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("BAKEHOUSE_CLOUD", "local").env("BAKEHOUSE_STORE", folder.path());
        for name in ["STATE", "CACHE", "LOGS"] {
            command.env(format!("BAKEHOUSE_{name}"), folder.path().join(name.to_lowercase()));
        }
        command
    };
    let baked = bakehouse().args(["bake", "examples/web/web.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&baked.stderr);
    assert!(baked.status.success(), "{said}");
    let image = String::from_utf8(baked.stdout).unwrap().trim().to_owned();
    let disk = store.disk_of(&store.image(&image).unwrap());
    let before = std::fs::metadata(&disk).unwrap().modified().unwrap();

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = bakehouse();
    command.args(["local", "boot", &image, "--memory", "512", "--port-forward", &format!("{port}:80")]);
    command.args(["--", "-monitor", "none"]);
    let mut machine = Machine::boot(command);
    machine.wait_for("debian login:");
    assert!(page(port).contains("This page came with the image."), "the page that the files step brought");
    drop(machine);
    assert_eq!(std::fs::metadata(&disk).unwrap().modified().unwrap(), before, "nothing was written");
}
