//! Starts the EC2 stand-in of `tests/standin`, steers it, and takes it away with all that it made.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What a stand-in is started with. The default: Nitro names, tiny latencies, Region eu-west-1.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Name devices as Xen instances do: `/dev/xvdf`.
    pub xen: bool,
    /// `create-volume`, `attach`, `detach`, `delete-volume`, `snapshot`, `image`, `copy`: seconds each takes.
    pub latencies: BTreeMap<String, f64>,
    /// The builder's architecture as EC2 names it; the host's without.
    pub arch: Option<String>,
}

/// A running stand-in.
#[derive(Debug)]
pub struct Standin {
    child: Child,
    agent: ureq::Agent,
    _folder: tempfile::TempDir,
    /// `http://127.0.0.1:PORT`, for every AWS service.
    pub endpoint: String,
    /// The same for the instance metadata service.
    pub imds: String,
}

/// The builder's Region, zone, account and instance.
pub const REGION: &str = "eu-west-1";
/// See [`REGION`].
pub const ZONE: &str = "eu-west-1b";
/// See [`REGION`].
pub const ACCOUNT: &str = "123456789012";
/// See [`REGION`].
pub const INSTANCE: &str = "i-0b1d0c2e3f4a56789";

impl Standin {
    /// Starts one and waits until it is ready.
    pub fn start(options: &Options) -> Self {
        let folder = tempfile::Builder::new().prefix("standin-").tempdir().unwrap();
        let mut command = Command::new(python());
        command
            .args(["-m", "standin", "--listen", "127.0.0.1:0", "--state"])
            .arg(folder.path().join("disks"));
        command.arg(if options.xen { "--xen" } else { "--nitro" });
        for (name, seconds) in &options.latencies {
            command.arg("--latency").arg(format!("{name}={seconds}"));
        }
        let arch = options.arch.clone().unwrap_or_else(|| match std::env::consts::ARCH {
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        });
        command.args(["--arch", &arch]);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        // It ends when this pipe is closed, so also when the tests are killed.
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the stand-in said {line:?} ({error}): {:?}", child.wait()));
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        Self { agent, _folder: folder, endpoint: text("endpoint"), imds: text("imds"), child }
    }

    /// The environment of a client on the builder: endpoints, Region and long-lived credentials, nothing of the user's own.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let mut set = self.env_of_instance();
        set.push(("AWS_ACCESS_KEY_ID", "AKIASTANDIN000000001".to_owned()));
        set.push(("AWS_SECRET_ACCESS_KEY", "standin-secret".to_owned()));
        set.push(("AWS_REGION", REGION.to_owned()));
        set
    }

    /// The same without credentials and Region: those come from the instance metadata.
    pub fn env_of_instance(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.imds.clone()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ]
    }

    /// Adds an image from a raw disk file; `about` is what `tests/standin/seed.py` knows, `name` at least. Its
    /// id and its snapshot's. The file is read in place, when it is first used, and must not change until then.
    pub fn seed(&self, file: &Path, mut about: Value) -> (String, String) {
        about["file"] = json!(file);
        let made = self.post("seed", &about);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("image_id"), text("snapshot_id"))
    }

    /// Sets an SSM parameter.
    pub fn parameter(&self, name: &str, value: &str) {
        self.post("parameters", &json!({"parameters": {name: value}}));
    }

    /// Sets an SSM parameter to a further version: `value`, and perhaps `type`, `data_type`, `labels`, the
    /// `account` that shares it.
    pub fn parameter_of(&self, name: &str, about: Value) {
        self.post("parameters", &json!({"parameters": {name: about}}));
    }

    /// Adds a volume of the user's with the content of a raw disk: its `volume_id`, and its `link` where it is attached
    /// to the builder. `about` is what `tests/standin/seed.py` knows.
    pub fn volume(&self, file: &Path, mut about: Value) -> Value {
        about["file"] = json!(file);
        self.post("volumes", &about)
    }

    /// Sets what refers to images; see `tests/standin/actions/users.py`.
    pub fn users(&self, users: Value) {
        self.post("users", &users);
    }

    /// Puts an object of S3; its `version` and `etag`. See `tests/standin/s3.py`.
    pub fn object(&self, object: Value) -> Value {
        self.post("objects", &object)
    }

    /// An image goes without its snapshots, as when EC2 got no further.
    pub fn forget_image(&self, image: &str) {
        self.forget_image_in(REGION, image);
    }

    /// The same in any Region.
    pub fn forget_image_in(&self, region: &str, image: &str) {
        self.post("forget", &json!({"image": image, "region": region}));
    }

    /// Sets a fault, or a list of them; see `tests/standin/README.md`.
    pub fn fault(&self, fault: Value) {
        self.post("faults", &fault);
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.call("DELETE", "faults", None);
    }

    /// Lets what `stuck` faults hold up go on: volumes and attachments.
    pub fn unstick(&self) {
        self.post("unstick", &json!({}));
    }

    /// Lets every call know what is unknown to it yet by an `invisible` fault.
    pub fn reveal(&self) {
        self.post("reveal", &json!({}));
    }

    /// Sets latencies, in seconds.
    pub fn latencies(&self, latencies: Value) {
        self.post("latencies", &latencies);
    }

    /// For how many seconds a new id is unknown to every call.
    pub fn consistency(&self, seconds: f64) {
        self.post("settings", &json!({"consistency": seconds}));
    }

    /// From now on the builder is another instance.
    pub fn builder(&self, instance: &str) {
        self.post("settings", &json!({"instance_id": instance}));
    }

    /// Makes a volume, snapshot or image older.
    pub fn age(&self, id: &str, seconds: u32) {
        self.post("age", &json!({"id": id, "seconds": seconds}));
    }

    /// The AWS requests that came, in order (those to the metadata service have the service `imds`).
    pub fn requests(&self) -> Vec<Value> {
        list(self.get("requests"))
    }

    /// The requests of one action; waits at most `wait` until there are so many.
    pub fn requests_of(&self, action: &str, at_least: usize, wait: Duration) -> Vec<Value> {
        list(self.get(&format!("requests?action={action}&at_least={at_least}&wait={}", wait.as_secs_f64())))
    }

    /// How often each action of EC2 was called.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in self.requests().iter().filter(|each| each["service"] == "ec2") {
            *counts.entry(request["action"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Forgets the requests noted so far.
    pub fn clear_requests(&self) {
        self.call("DELETE", "requests", None);
    }

    /// The calls held by a `hold` fault; waits at most `wait` for one.
    pub fn held(&self, wait: Duration) -> Vec<Value> {
        list(self.get(&format!("held?wait={}", wait.as_secs_f64())))
    }

    /// Lets the held calls go on; with `reset`, resets their connections (what was held before it was carried
    /// out never is).
    pub fn release(&self, reset: bool) {
        self.post("release", &json!({"drop": reset}));
    }

    /// Everything in the builder's Region: `volumes`, `snapshots`, `images`, as Describe calls show them; volumes
    /// and snapshots with their `File`, a path that root can open while the stand-in runs.
    pub fn state(&self) -> Value {
        self.state_of(REGION)
    }

    /// The same in any Region.
    pub fn state_of(&self, region: &str) -> Value {
        let all = self.get("state");
        assert_eq!(all["troubles"], json!([]), "the stand-in itself failed");
        let mut here = all["regions"][region].clone();
        for kind in ["volumes", "snapshots", "images"] {
            if here[kind].is_null() {
                here[kind] = json!([]);
            }
        }
        here
    }

    /// One resource of [`Standin::state`]: `("images", "ImageId", id)`.
    pub fn find(&self, kind: &str, key: &str, id: &str) -> Option<Value> {
        self.find_in(REGION, kind, key, id)
    }

    /// The same in any Region.
    pub fn find_in(&self, region: &str, kind: &str, key: &str, id: &str) -> Option<Value> {
        list(self.state_of(region)[kind].clone()).into_iter().find(|each| each[key] == id)
    }

    /// Looks until `met` says yes, at most two minutes; else panics with what there is.
    pub fn until(&self, what: &str, met: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let state = self.state();
            if met(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "{what} did not come to be: {state:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it and asserts that it could give everything back.
    pub fn stop(mut self) {
        assert!(self.end(), "the stand-in could not give everything back (see its output)");
    }

    fn end(&mut self) -> bool {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(_) => break,
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
        false
    }

    fn get(&self, page: &str) -> Value {
        self.call("GET", page, None)
    }

    fn post(&self, page: &str, document: &Value) -> Value {
        self.call("POST", page, Some(document))
    }

    fn call(&self, method: &str, page: &str, document: Option<&Value>) -> Value {
        let url = format!("{}/_control/{page}", self.endpoint);
        let mut answer = match (method, document) {
            ("POST", Some(document)) => self.agent.post(&url).send(document.to_string()).unwrap(),
            ("DELETE", _) => self.agent.delete(&url).call().unwrap(),
            _ => self.agent.get(&url).call().unwrap(),
        };
        let text = answer.body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
        assert_eq!(answer.status(), 200, "{method} {page}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && !self.end() {
            eprintln!("the stand-in could not give everything back");
        }
    }
}

/// A Python with botocore: `BAKEHOUSE_TEST_PYTHON`, else the one that `scripts/test-python` makes.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        if let Some(given) = std::env::var_os("BAKEHOUSE_TEST_PYTHON") {
            return given.into();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-python");
        let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{} failed: {}", script.display(), output.status);
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    })
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("not a list: {other}"),
    }
}
