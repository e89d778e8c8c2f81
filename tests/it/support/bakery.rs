//! The command on a builder host of a test's own: folders of its own, what it said, and what it left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bakehouse::cloud::local::{NewImage, Origin, Provenance, Store};
use bakehouse::disk::Filesystem;
use bakehouse::disk::loopdev::LoopDevice;
use bakehouse::plan::Arch;
use serde_json::Value;

use super::host::{own_mounts, run};
use super::images::{Image, copy_program, mounted};
use super::standin::Standin;

/// Longer than any command of a test takes.
const LIMIT: &str = "240";

/// A builder with a store, a state folder, caches and logs of its own.
pub struct Bakery {
    folder: tempfile::TempDir,
    env: BTreeMap<String, String>,
    limit: &'static str,
}

impl Bakery {
    /// One that bakes into its own store.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("bakehouse-bakery-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let mut env = BTreeMap::new();
        for name in ["STORE", "STATE", "CACHE", "LOGS"] {
            env.insert(format!("BAKEHOUSE_{name}"), path(&name.to_lowercase()));
        }
        env.insert("XDG_CONFIG_HOME".to_owned(), path("config"));
        env.insert("BAKEHOUSE_CLOUD".to_owned(), "local".to_owned());
        Self { folder, env, limit: LIMIT }
    }

    /// One that is an EC2 instance as far as the SDK's standard variables say so.
    pub fn on_ec2(standin: &Standin) -> Self {
        let mut bakery = Self::new();
        bakery.env.remove("BAKEHOUSE_CLOUD");
        let set = standin.env().into_iter().filter(|(name, _)| *name != "AWS_REGION");
        bakery.env.extend(set.map(|(name, value)| (name.to_owned(), value)));
        bakery
    }

    /// Sets a variable of the command's environment, or takes it away.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.env.insert(name.to_owned(), value.to_owned()),
            None => self.env.remove(name),
        };
        self
    }

    /// Lets each command take so many seconds: where a whole distribution is bootstrapped, or booted.
    pub fn patient(mut self, seconds: &'static str) -> Self {
        self.limit = seconds;
        self
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of its folder.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Its store.
    pub fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    /// Puts a base into its store: a file that nobody writes to, and so a second name of it where that can be.
    pub fn base(&self, name: &str, disk: &Path) -> &Self {
        let new = NewImage {
            name: name.to_owned(),
            arch: Arch::parse(std::env::consts::ARCH).unwrap(),
            description: String::new(),
            tags: BTreeMap::new(),
            boot_mode: None,
            provenance: Provenance::new(Origin::Import, None),
        };
        self.store().add(new, |file| fill(disk, file)).unwrap();
        self
    }

    /// The command, in the bakery's folder, by way of other programs where `through` names them.
    pub fn command(&self, through: &[&str], arguments: &[&str]) -> Command {
        self.program(&[through, &[env!("CARGO_BIN_EXE_bakehouse")], arguments].concat())
    }

    /// A program in the bakery's folder and environment, ended when it takes too long.
    pub fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", self.limit]).args(words);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("AWS_") || name.starts_with("BAKEHOUSE_") {
                command.env_remove(name.as_ref());
            }
        }
        command.envs(&self.env);
        command
    }

    /// Runs the command.
    pub fn bakehouse(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(&[], arguments))
    }

    /// Bakes a recipe that is written to `recipe.toml`.
    pub fn bake(&self, recipe: &str, more: &[&str]) -> Ran {
        self.put("recipe.toml", recipe);
        self.bakehouse(&[&["bake", "recipe.toml"], more].concat())
    }

    /// Looks at the files of a partition (0: the whole disk) of an image of the store.
    pub fn look<T: Send>(
        &self,
        image: &str,
        partition: u32,
        kind: &str,
        look: impl FnOnce(&Path) -> T + Send,
    ) -> T {
        let store = self.store();
        look_into(&store.disk_of(&store.image(image).unwrap()), partition, kind, look)
    }

    /// Waits until the kernel has let the disks of a bake that was killed go, which it does in its own time.
    #[track_caller]
    pub fn until_nothing_is_held(&self) {
        let own = self.folder.path().to_string_lossy().into_owned();
        let until = Instant::now() + Duration::from_secs(120);
        let held = || {
            let loops = fs::read_dir("/sys/block").unwrap().flatten();
            let mut files = loops.map(|one| fs::read_to_string(one.path().join("loop/backing_file")));
            files.any(|file| file.is_ok_and(|file| file.starts_with(&own)))
        };
        while held() {
            assert!(Instant::now() < until, "a loop device is still bound");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asserts that nothing of any bake is left: journals, loop devices, mounts, working folders, disks that no
    /// image has.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let mut left = Vec::new();
        let files = |folder: &str| files_below(&self.path(folder));
        left.extend(files("state").into_iter().filter(|path| path.to_string_lossy().contains("bake-")));
        let snapshots: Vec<_> =
            self.store().records().unwrap().into_iter().map(|record| record.snapshot).collect();
        left.extend(files("store/disks").into_iter().filter(|path| {
            !snapshots.iter().any(|snapshot| path.file_stem().is_some_and(|stem| stem == snapshot.as_str()))
        }));
        let working = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "work");
        left.extend(files("cache").into_iter().filter(working));
        for log in files("logs") {
            let work = Path::new("/run/bakehouse").join(log.file_stem().unwrap());
            left.extend(work.exists().then_some(work));
        }
        let own = self.folder.path().to_string_lossy().into_owned();
        for entry in fs::read_dir("/sys/block").unwrap().flatten() {
            let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            left.extend(backing.starts_with(&own).then(|| PathBuf::from(backing.trim_end())));
        }
        for mount in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            left.extend(mount.contains(&own).then(|| PathBuf::from(mount)));
        }
        assert_eq!(left, Vec::<PathBuf>::new(), "left behind");
    }
}

/// What a run of the command came to.
#[derive(Debug)]
pub struct Ran {
    line: String,
    /// Its exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let begun = Instant::now();
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = format!("{command:?}");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Self { line, status: output.status.code(), out, err, took: begun.elapsed() }
    }

    /// That it went well.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.status, Some(0), "{}", self.told());
        self
    }

    /// That it went well and printed one line alone; that line.
    #[track_caller]
    pub fn id(self) -> String {
        let ran = self.good();
        let id = ran.out.trim_end().to_owned();
        assert!(!id.is_empty() && ran.out == format!("{id}\n") && !id.contains('\n'), "{}", ran.told());
        id
    }

    /// That it went well and printed a JSON document; that document.
    #[track_caller]
    pub fn json(self) -> Value {
        let ran = self.good();
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.told()))
    }

    /// That it failed with this status, said all these words on standard error, told one error, and had no result.
    #[track_caller]
    pub fn refused(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, Some(status), "{}", self.told());
        for word in words {
            assert!(self.err.contains(word), "does not say {word:?}: {}", self.told());
        }
        let errors = self.err.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "one message: {}", self.told());
        assert!(self.err.contains("what to do: "), "does not say what to do: {}", self.told());
        assert!(!self.err.contains("panicked"), "{}", self.told());
        assert_eq!(self.out, "", "a failure has no result: {}", self.told());
        self
    }

    /// All of it, for a failed assertion.
    pub fn told(&self) -> String {
        let Self { line, status, out, err, took } = self;
        format!("{line}: {status:?} after {took:.1?}\n--- stdout\n{out}--- stderr\n{err}---")
    }
}

/// Looks at the files of a partition (0: the whole disk) of a raw disk, mounted read-only in a namespace of its own,
/// once its filesystem was checked.
pub fn look_into<T: Send>(
    disk: &Path,
    partition: u32,
    kind: &str,
    look: impl FnOnce(&Path) -> T + Send,
) -> T {
    let target = tempfile::tempdir().unwrap();
    in_mounts_of_its_own(|| {
        let device = LoopDevice::attach(disk).unwrap();
        let node = match partition {
            0 => device.path().to_owned(),
            _ => {
                let partitions = device.partitions().unwrap();
                partitions.into_iter().find(|(number, _)| *number == partition).unwrap().1
            }
        };
        let name = node.to_str().unwrap();
        match kind {
            "ext4" => run("e2fsck", &["-fn", name]),
            "xfs" => run("xfs_repair", &["-n", name]),
            "btrfs" => run("btrfs", &["check", "--readonly", name]),
            other => panic!("{other}"),
        };
        let seen = mounted(&node, kind, if kind == "xfs" { "nouuid" } else { "" }, target.path(), look);
        device.detach().unwrap();
        seen
    })
}

/// Works in a mount namespace of its own: what is mounted meanwhile is seen, and kept busy, by no other test's
/// programs.
pub fn in_mounts_of_its_own<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        own_mounts();
        work()
    };
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// What there is in a root: by path, what a bake might change of it without meaning to.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let mut about = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
            if meta.is_dir() {
                folders.push(path.clone());
            } else {
                about.push_str(&format!(" {} bytes of {}.{}", meta.len(), meta.mtime(), meta.mtime_nsec()));
            }
            if meta.is_symlink() {
                about.push_str(&format!(" to {}", fs::read_link(&path).unwrap().display()));
            }
            found.insert(path.strip_prefix(root).unwrap().to_owned(), about);
        }
    }
    found
}

/// The paths that are in one tree alone or are not the same in both, without those that `meant` says are to differ.
pub fn changed(
    before: &BTreeMap<PathBuf, String>,
    after: &BTreeMap<PathBuf, String>,
    meant: impl Fn(&str) -> bool,
) -> Vec<String> {
    let all: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    all.into_iter()
        .filter(|path| before.get(*path) != after.get(*path) && !meant(path.to_str().unwrap()))
        .map(|path| format!("{}: {:?}, now {:?}", path.display(), before.get(path), after.get(path)))
        .collect()
}

/// A copy of a raw disk, changed: `work` is given its root (partition 1, ext4).
pub fn changed_copy(disk: &Path, folder: &Path, name: &str, work: impl FnOnce(&Path) + Send) -> PathBuf {
    let file = folder.join(name);
    run("cp", &["--sparse=always", "--reflink=auto", disk.to_str().unwrap(), file.to_str().unwrap()]);
    look_into(&file, 1, "ext4", work);
    file
}

/// Fills a root with the least in which a shell's script can run: this host's shell and what it is linked with.
pub fn fill_with_shell(root: &Path, fstab: &str) {
    super::images::fill_root(root, fstab);
    for folder in ["bin", "dev", "proc", "run", "sys", "tmp", "var/tmp", "root"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    copy_program(root, "/bin/sh");
}

/// A disk with such a root on one of its partitions (0: the whole disk), `more` done to it.
pub fn shell_disk(
    mib: u64,
    script: &str,
    (partition, filesystem): (u32, Filesystem),
    more: impl FnOnce(&Path) + Send,
) -> Image {
    let image = if partition == 0 { Image::empty(mib) } else { Image::partitioned(mib, script) };
    in_mounts_of_its_own(|| {
        image.format(partition, filesystem, "root", |root| {
            fill_with_shell(root, "LABEL=root / auto defaults 0 1\n");
            more(root);
        });
    });
    image
}

/// A disk of one partition with such a root: for all that asks no package manager.
pub fn small_disk() -> Image {
    shell_disk(64, "label: gpt\ntype=linux\n", (1, Filesystem::Ext), |_| ())
}

fn fill(disk: &Path, file: &Path) -> anyhow::Result<()> {
    fs::remove_file(file)?;
    if fs::hard_link(disk, file).is_err() {
        run("cp", &["--sparse=always", "--reflink=auto", disk.to_str().unwrap(), file.to_str().unwrap()]);
    }
    Ok(())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let below = entries.flatten().map(|entry| entry.path()).map(|path| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    });
    below.flatten().collect()
}
