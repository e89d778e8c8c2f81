//! A builder of a test's own: folders, a store or a stand-in, the command, and a look at what it left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bakehouse::cloud::local::{NewImage, Origin, Provenance, Store};
use bakehouse::plan::Arch;
use serde_json::{Value, json};

pub use super::running::{Ended, Running};
use crate::support::host::run;
use crate::support::standin::{Options, Standin};
pub use stands::Stands;

mod stands;

/// What the step of every bake writes, at [`MARKER`].
const MARK: &str = "baked";
const MARKER: &str = "/srv/marker";
/// The step of a bake that goes well.
pub const GOOD_STEP: &str = "echo baked > /srv/marker";

/// Longer than any command of these tests takes on a busy host.
pub const LIMIT: Duration = Duration::from_secs(90);

/// The programs that a site needs.
pub const NEEDED: &[&str] = &["strace", "busybox", "mkfs.ext4", "e2fsck", "resize2fs", "debugfs"];

/// Which cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Local,
    Ec2,
}

impl On {
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ec2 => "ec2",
        }
    }
}

/// The least root that can be baked on: one with a shell.
pub fn fill_tiny(root: &Path) {
    for folder in ["bin", "dev", "etc", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var/tmp"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let busybox = bakehouse::program::find("busybox".as_ref()).unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    fs::write(root.join("etc/os-release"), "ID=tiny\nVERSION_ID=1\n").unwrap();
}

/// Where a base's filesystems begin on its disk, the first that with the step's mark; and that mark's place in it.
#[derive(Debug, Clone)]
pub struct Places(pub Vec<u64>, pub &'static str);

/// The smallest disk that can be baked on: an ext4 filesystem with such a root.
fn make_tiny(disk: &Path) -> Places {
    let root = tempfile::tempdir().unwrap();
    fill_tiny(root.path());
    File::create(disk).unwrap().set_len(16 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-d", root.path().to_str().unwrap(), disk.to_str().unwrap()]);
    Places(vec![0], MARKER)
}

/// A builder.
pub struct Site {
    pub on: On,
    folder: tempfile::TempDir,
    pub standin: Option<Standin>,
    base: String,
    base_snapshot: String,
    places: Places,
    env: Vec<(String, String)>,
    /// The user's own disk that bakes are on, where they are: a volume's id, or a file.
    given: Option<String>,
    /// Names that an image had before, which the bake of that name replaces.
    old: Mutex<BTreeSet<String>>,
}

impl Site {
    pub fn new(on: On) -> Self {
        Self::with(on, &Options::default())
    }

    pub fn with(on: On, options: &Options) -> Self {
        Self::on_base(on, options, make_tiny)
    }

    /// One whose base is what `make` makes of a file.
    pub fn on_base(on: On, options: &Options, make: impl FnOnce(&Path) -> Places) -> Self {
        let folder = tempfile::Builder::new().prefix("bakehouse-crash-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        // A name of its own for the command: what runs of it is then told from what others run.
        let command = folder.path().join("bakehouse");
        if fs::hard_link(env!("CARGO_BIN_EXE_bakehouse"), &command).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_bakehouse"), &command).unwrap();
        }
        let mut env: Vec<(String, String)> = ["STORE", "STATE", "CACHE", "LOGS"]
            .iter()
            .map(|name| (format!("BAKEHOUSE_{name}"), path(&name.to_lowercase())))
            .collect();
        env.push(("XDG_CONFIG_HOME".to_owned(), path("config")));
        env.push(("BAKEHOUSE_CLOUD".to_owned(), on.name().to_owned()));
        for (name, limit) in [
            ("LOOKUP", "1s"),
            // What a killed bake had released already is looked for as long.
            ("VISIBLE", "5s"),
            ("FIRST_LOOK", "30ms"),
            ("FIRST_LOOK_SNAPSHOT", "60ms"),
            ("ATTEMPT", "20s"),
        ] {
            env.push((format!("BAKEHOUSE_DEADLINE_{name}"), limit.to_owned()));
        }
        let tiny = folder.path().join("tiny.raw");
        let places = make(&tiny);
        let mut site = Self {
            on,
            folder,
            standin: None,
            base: String::new(),
            base_snapshot: String::new(),
            places,
            env,
            given: None,
            old: Mutex::default(),
        };
        match on {
            On::Ec2 => {
                let standin = Standin::start(options);
                let set = standin.env();
                site.env.extend(set.into_iter().map(|(name, value)| (name.to_owned(), value)));
                (site.base, site.base_snapshot) = standin.seed(&tiny, json!({"name": "tiny"}));
                site.standin = Some(standin);
            }
            On::Local => {
                (site.base, site.base_snapshot) = site.add_tiny("tiny");
            }
        }
        site.write_recipe(GOOD_STEP);
        site
    }

    /// One whose bakes are on a disk of the user's own.
    pub fn on_given(on: On) -> Self {
        let mut site = Self::new(on);
        let tiny = site.path("tiny.raw");
        site.given = Some(match &site.standin {
            Some(standin) => standin.volume(&tiny, json!({}))["volume_id"].as_str().unwrap().to_owned(),
            None => {
                let given = site.path("given.raw");
                fs::copy(&tiny, &given).unwrap();
                given.to_str().unwrap().to_owned()
            }
        });
        site.write_recipe(GOOD_STEP);
        site
    }

    /// Adds an image of the store; its name and its snapshot.
    fn add_tiny(&self, name: &str) -> (String, String) {
        let new = NewImage {
            name: name.to_owned(),
            arch: Arch::parse(std::env::consts::ARCH).unwrap(),
            description: String::new(),
            tags: Default::default(),
            boot_mode: None,
            provenance: Provenance::new(Origin::Import, None),
        };
        let tiny = self.path("tiny.raw");
        let added = self.store().add(new, |file: &Path| Ok(fs::copy(&tiny, file).map(drop)?)).unwrap();
        (added.name, added.snapshot)
    }

    /// Gives the name to an image, which every bake of that name then replaces.
    pub fn add_old(&self, name: &str) {
        match &self.standin {
            Some(standin) => drop(standin.seed(&self.path("tiny.raw"), json!({"name": name}))),
            None => drop(self.add_tiny(name)),
        }
        self.old.lock().unwrap().insert(name.to_owned());
    }

    /// The stand-in of a site on EC2.
    pub fn ec2(&self) -> &Standin {
        self.standin.as_ref().expect("a site on EC2")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The recipe of every bake from now on, of one step.
    pub fn write_recipe(&self, script: &str) {
        self.write_recipe_as("recipe.toml", script);
    }

    /// A recipe in a file of its own.
    pub fn write_recipe_as(&self, file: &str, script: &str) {
        let (key, base) = match (&self.given, self.on) {
            (Some(given), On::Ec2) => ("volume", given),
            (Some(given), On::Local) => ("device", given),
            (None, On::Ec2) => ("ami", &self.base),
            (None, On::Local) => ("image", &self.base),
        };
        let text = format!(
            "[image]\nname = \"unnamed\"\n[base]\n{key} = {:?}\n[[step]]\nuse = \"script\"\nrun = [\"/bin/sh\", \"-c\", {script:?}]\n",
            base
        );
        fs::write(self.path(file), text).unwrap();
    }

    /// Starts the command, by way of another program where `through` names one.
    pub fn start(&self, through: &[&str], arguments: &[&str]) -> Running {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let out = self.path(&format!("{number}.out"));
        let err = self.path(&format!("{number}.err"));
        let mut command = self.command(through, arguments);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), out, err, begun: Instant::now() }
    }

    pub fn command(&self, through: &[&str], arguments: &[&str]) -> Command {
        let own = self.path("bakehouse");
        let words = [through, &[own.to_str().unwrap()], arguments].concat();
        self.command_of(words[0], &words[1..])
    }

    /// Another program in the environment of the command.
    pub fn command_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("AWS_") || name.starts_with("BAKEHOUSE_") {
                command.env_remove(name.as_ref());
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a bake of an image of that name.
    pub fn bake(&self, through: &[&str], name: &str) -> Running {
        self.start(through, &self.arguments(name))
    }

    /// The arguments of such a bake.
    pub fn arguments<'n>(&self, name: &'n str) -> Vec<&'n str> {
        let mut arguments = vec!["bake", "recipe.toml", "--name", name];
        if self.old.lock().unwrap().contains(name) {
            arguments.push("--force");
        }
        arguments
    }

    /// Runs `gc`; its findings.
    pub fn gc(&self, more: &[&str]) -> Result<Vec<Value>, String> {
        let ended = self.start(&[], &[&["gc", "--output", "json"], more].concat()).wait();
        let findings = serde_json::from_str(&ended.out);
        match (ended.status.code(), findings) {
            (Some(0), Ok(Value::Array(findings))) => Ok(findings),
            _ => Err(format!("gc {more:?}: {}", ended.told())),
        }
    }

    /// The same, until there are so many findings.
    pub fn gc_until(&self, more: &[&str], wanted: usize) -> Vec<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.gc(more).unwrap();
            if found.len() >= wanted {
                return found;
            }
            assert!(Instant::now() < deadline, "gc finds {found:?}");
        }
    }
}
