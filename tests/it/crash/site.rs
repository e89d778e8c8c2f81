//! A builder of a test's own: folders, a store or a stand-in, the command, and a look at what it left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bakehouse::cloud::local::{NewImage, Origin, Provenance, Store};
use bakehouse::plan::Arch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::host::run;
use crate::support::standin::{Options, Standin};

/// What the step of every bake writes, at [`MARKER`].
const MARK: &str = "baked";
const MARKER: &str = "/srv/marker";
/// The step of a bake that goes well.
pub const GOOD_STEP: &str = "echo baked > /srv/marker";

/// Longer than any command of these tests takes on a busy host.
const LIMIT: Duration = Duration::from_secs(90);

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

/// What a bake, and the sweep after it, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stands {
    /// Nothing of the bake is there.
    Nothing,
    /// Its image is, whole and registered, and nothing else.
    Image,
    /// Nothing of the bake is there, and the image that it was to replace stands as it did.
    Old,
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
        for (name, limit) in
            [("LOOKUP", "1s"), ("FIRST_LOOK", "30ms"), ("FIRST_LOOK_SNAPSHOT", "60ms"), ("ATTEMPT", "20s")]
        {
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

    /// That the user's own disk is there, and nobody has it.
    fn given_stands(&self, left: &mut Vec<String>) {
        let Some(given) = &self.given else { return };
        let is_there = match &self.standin {
            Some(standin) => standin
                .find("volumes", "VolumeId", given)
                .is_some_and(|volume| volume["State"] == "available" && volume["Tags"].is_null()),
            None => fs::metadata(given).is_ok_and(|meta| meta.len() == 16 << 20),
        };
        if !is_there {
            left.push(format!("the user's {given} as it should not be"));
        }
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

    /// Waits until nothing of a bake that died runs, is mounted or is bound to a loop device: the kernel takes
    /// all that away by itself.
    pub fn settle(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = self.alive();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("still alive: {left:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn alive(&self) -> Vec<String> {
        let own = self.folder.path();
        let own_text = own.to_str().unwrap();
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let link = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            if link.starts_with(own) {
                left.push(format!("process {}", entry.file_name().display()));
            }
        }
        for entry in fs::read_dir("/sys/block").unwrap().flatten() {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            if file.starts_with(own_text) {
                left.push(format!("loop device of {}", file.trim_end()));
            }
        }
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            if line.contains(own_text)
                || self.works().iter().any(|work| line.contains(work.to_str().unwrap()))
            {
                left.push(format!("mount {line}"));
            }
        }
        left
    }

    /// The working folders of all bakes of this site, told by their logs.
    fn works(&self) -> Vec<PathBuf> {
        let logs = fs::read_dir(self.path("logs")).into_iter().flatten().flatten();
        logs.map(|log| Path::new("/run/bakehouse").join(log.path().file_stem().unwrap())).collect()
    }

    /// Takes away the working folders, as a reboot does.
    pub fn forget_works(&self) {
        for work in self.works() {
            bakehouse::bake::forget_work(&work).unwrap();
        }
    }

    /// The base's disk, so that a change of it is seen.
    pub fn base_digest(&self) -> String {
        let disk = match &self.standin {
            Some(standin) => {
                let snapshot = standin.find("snapshots", "SnapshotId", &self.base_snapshot).unwrap();
                PathBuf::from(snapshot["File"].as_str().unwrap())
            }
            None => self.store().disk_of(&self.store().image("tiny").unwrap()),
        };
        run("sha256sum", &[disk.to_str().unwrap()]).split(' ').next().unwrap().to_owned()
    }

    /// The disk of an image of that name.
    pub fn disk_of(&self, name: &str) -> Option<PathBuf> {
        match self.on {
            On::Ec2 => self.ec2_stands(name, &mut Vec::new()),
            On::Local => self.local_stands(name, &mut Vec::new()),
        }
    }

    /// The journals that there are.
    pub fn journals(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.path("state/bakes")).into_iter().flatten().flatten();
        folder.map(|entry| entry.path()).collect()
    }

    /// Everything that there is, by name: what a dry run must leave as it is.
    pub fn inventory(&self) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = ["state/bakes", "store/disks", "store/images"]
            .iter()
            .flat_map(|folder| fs::read_dir(self.path(folder)).into_iter().flatten().flatten())
            .map(|entry| {
                format!("{} {}", entry.path().display(), entry.metadata().map_or(0, |meta| meta.len()))
            })
            .collect();
        all.extend(self.works().iter().filter(|work| work.exists()).map(|work| work.display().to_string()));
        if let Some(standin) = &self.standin {
            let state = standin.state();
            for (kind, key) in [("volumes", "VolumeId"), ("snapshots", "SnapshotId"), ("images", "ImageId")] {
                all.extend(state[kind].as_array().unwrap().iter().map(|each| each[key].to_string()));
            }
        }
        all
    }

    /// What stands of the bake of that name, and of all others: anything that is in between is an error.
    pub fn stands(&self, name: &str) -> Result<Stands, String> {
        let mut left: Vec<String> =
            self.journals().iter().map(|path| format!("journal {}", path.display())).collect();
        left.extend(
            self.works().iter().filter(|work| work.exists()).map(|work| format!("{}", work.display())),
        );
        self.given_stands(&mut left);
        let found = match self.on {
            On::Ec2 => self.ec2_stands(name, &mut left),
            On::Local => self.local_stands(name, &mut left),
        };
        let replaces = self.old.lock().unwrap().contains(name);
        match (left.is_empty(), found) {
            (false, _) => Err(format!("left: {left:#?}")),
            (true, None) if replaces => Err("neither the old image nor the new one".to_owned()),
            (true, None) => Ok(Stands::Nothing),
            (true, Some(disk)) => {
                // As it lies there: nobody has it mounted, nobody repaired it.
                let Places(begins, marker) = &self.places;
                let filesystems: Vec<_> =
                    begins.iter().map(|begin| format!("{}?offset={begin}", disk.display())).collect();
                let read = run("debugfs", &["-R", &format!("cat {marker}"), &filesystems[0]]);
                if replaces && read.is_empty() {
                    return Ok(Stands::Old);
                }
                if read.trim() != MARK {
                    return Err(format!("{} holds {read:?} in {marker}", filesystems[0]));
                }
                for filesystem in &filesystems {
                    run("e2fsck", &["-fn", filesystem]);
                }
                Ok(Stands::Image)
            }
        }
    }

    fn ec2_stands(&self, name: &str, left: &mut Vec<String>) -> Option<PathBuf> {
        let state = self.ec2().state();
        let all = |kind: &str| state[kind].as_array().unwrap().clone();
        let is_bakes = |each: &&Value| self.given.as_deref() != each["VolumeId"].as_str();
        left.extend(all("volumes").iter().filter(is_bakes).map(|each| format!("volume {each}")));
        let images = all("images");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |image: &Value| text(&image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]);
        let mut found = None;
        for snapshot in all("snapshots") {
            let id = text(&snapshot["SnapshotId"]);
            let user = images.iter().find(|image| of(image) == id);
            match user {
                _ if id == self.base_snapshot => {}
                Some(image) if snapshot["State"] == "completed" => {
                    if image["Name"] == name {
                        found = Some(PathBuf::from(text(&snapshot["File"])));
                    }
                }
                _ => left.push(format!("snapshot {snapshot}")),
            }
        }
        for image in &images {
            let provisional = text(&image["Name"]).starts_with("bake-");
            if provisional || !["available", "pending"].contains(&image["State"].as_str().unwrap()) {
                left.push(format!("image {image}"));
            }
        }
        found
    }

    fn local_stands(&self, name: &str, left: &mut Vec<String>) -> Option<PathBuf> {
        let store = self.store();
        let records = store.records().unwrap();
        for entry in fs::read_dir(self.path("store/disks")).unwrap().flatten() {
            let path = entry.path();
            if !records.iter().any(|record| store.disk_of(record) == path) {
                left.push(format!("disk {}", path.display()));
            }
        }
        let files = fs::read_dir(self.path("store/images")).unwrap().count();
        if files != records.len() {
            left.push(format!("{files} files for {} images", records.len()));
        }
        for record in &records {
            if !store.disk_of(record).is_file() {
                left.push(format!("image {} without its disk", record.id));
            }
        }
        records.iter().find(|record| record.name == name).map(|record| store.disk_of(record))
    }
}

/// A command that runs.
pub struct Running {
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
    begun: Instant,
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
