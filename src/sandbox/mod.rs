//! One argv run in a root: namespaces, pivot_root, devices, capabilities, seccomp, cgroup, network policy.
//! Set up by re-executing this binary, never by code after fork in a threaded process. Knows nothing of
//! packages.
//!
//! ```text
//! caller ── control socket ── stage1 (outside; cgroup, BPF) ── init (PID 1 inside) ── payload (PID 2: the program)
//! ```
//!
//! What holds those inside, wall by wall, is told where it is built: processes and the init in `init`, mounts in
//! `root`, `dev` and `proc`, the resolver in `resolver`, capabilities in `caps`, system calls in `seccomp` and
//! `syscalls`, the network in `egress`, limits in `cgroup`, secrets in `secrets`.

mod caps;
mod cgroup;
mod dev;
mod egress;
mod host;
mod init;
mod lines;
mod outside;
mod own;
mod payload;
mod placeholder;
mod proc;
mod resolver;
mod root;
mod run;
mod seccomp;
mod secrets;
mod self_test;
mod stage1;
mod syscalls;
mod terminal;
mod wire;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::stop::Stop;

pub use caps::KEPT as KEPT_CAPABILITIES;
pub use cgroup::sweep;
pub use egress::{REFUSED_V4, REFUSED_V6};
pub use host::{Wall, walls};
pub use outside::OWN as OUTSIDE_OWN;
pub use payload::{DEFAULT_PATH, environment};
pub use secrets::Secret;
pub use self_test::self_test;

/// The hidden word by which this binary is executed again.
const HELPER: &str = "__sandbox";

/// What runs inside.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Program {
    /// An argument vector, its first word looked up in the root's PATH.
    Argv(Vec<String>),
    /// A function of this binary (name, JSON argument), run after the root was entered: needs no program of the image.
    Builtin(String, serde_json::Value),
}

/// Something of the builder seen inside. Targets are resolved beneath the root.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Bind {
    /// On the builder.
    pub source: PathBuf,
    /// Inside; made if it is below one of the sandbox's own tmpfs (/run, /tmp, /dev), else it must exist.
    pub target: PathBuf,
    /// Whether inside may write to it.
    pub writable: bool,
}

/// What network there is inside. From a root the metadata service is never reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The builder's with all that it reaches, the metadata service too: for runs on the builder alone.
    Builder,
    /// The builder's, all but the instance metadata addresses.
    Host,
    /// None: a loopback interface alone.
    None,
}

/// One run.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// What runs.
    pub program: Program,
    /// Its whole environment besides PATH, HOME, LANG and TERM, which the sandbox sets where they are absent.
    pub env: BTreeMap<String, String>,
    /// Working directory inside; `/` where left out.
    pub cwd: Option<PathBuf>,
    /// What of the builder is seen inside.
    pub binds: Vec<Bind>,
    /// The network.
    pub network: Network,
    /// Answer 0 to fsync, fdatasync, sync, syncfs, msync and sync_file_range.
    pub suppress_sync: bool,
    /// Connect standard input, output and error to the caller's terminal (a shell).
    pub interactive: bool,
    /// After this it is ended.
    #[serde(skip)]
    pub timeout: Option<Duration>,
    /// Device nodes of the builder that are seen inside at the same path (`devices = "disk"`); none by default.
    pub devices: Vec<PathBuf>,
    /// Names below /dev as udev gives them, each with the builder's node that it means. Where the node is none of
    /// `devices`, the name leads to one that can be looked at and not opened.
    pub device_names: Vec<(PathBuf, PathBuf)>,
    /// Keeps CAP_SYS_ADMIN, so that it may mount. Whoever has it is not held by this sandbox: only where a step asks.
    pub mounts: bool,
    /// Nothing of the image can be changed, only what is in the sandbox's own folders.
    #[serde(default)]
    pub read_only: bool,
    /// Limits on memory, processes and processor time; none by default.
    pub limits: Limits,
    /// The program's standard input; nothing where left out. Not of an interactive run.
    #[serde(skip)]
    pub input: Option<Arc<OwnedFd>>,
    /// It runs on the builder itself, not in the root: with all that the builder's root user may and sees, but for
    /// the root. It ends as every run does, all of it, and has the run's environment, network and limits.
    pub outside: bool,
    /// Of a run on the builder: it sees the root, and /run/bakehouse as it is, in mounts of its own (what it mounts
    /// goes with it).
    pub sees_root: bool,
    /// Files that are inside as long as it runs, at `/run/bakehouse/secrets/NAME`; none by default.
    pub secrets: Vec<Secret>,
}

/// Limits of a run, kept by its cgroup (version 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Memory in bytes; beyond it the kernel ends processes of the run.
    pub memory: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u64>,
    /// Processor time in hundredths of one processor: 150 is one and a half.
    pub cpu_percent: Option<u32>,
}

impl Run {
    /// A run of `program` in the root with the defaults: no environment, no binds, the builder's network, sync
    /// real, no terminal, no timeout, no devices, no limits, no input.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            env: BTreeMap::new(),
            cwd: None,
            binds: Vec::new(),
            network: Network::Host,
            suppress_sync: false,
            interactive: false,
            timeout: None,
            devices: Vec::new(),
            device_names: Vec::new(),
            mounts: false,
            read_only: false,
            limits: Limits::default(),
            input: None,
            outside: false,
            sees_root: false,
            secrets: Vec::new(),
        }
    }
}

/// A function of this binary that can run inside: its name, and what it does with its argument.
pub type Builtin = (&'static str, fn(serde_json::Value) -> Result<()>);

/// Does the sandbox's own work and never returns when this process is one of its helpers; else does nothing.
/// Must be the first thing in `main`, before any thread.
pub fn entry(builtins: &[Builtin]) {
    if std::env::args_os().nth(1).is_some_and(|word| word == HELPER) {
        let mut all = vec![(self_test::NAME, self_test::look_around as fn(serde_json::Value) -> Result<()>)];
        all.extend_from_slice(builtins);
        stage1::main(&all);
    }
}

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this status.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// Its time was up.
    TimedOut,
}

/// A root that programs can be run in.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The mounted root.
    pub root: PathBuf,
    /// The binary that is executed again for the set-up: this one, `/proc/self/exe`, but in tests.
    pub helper: PathBuf,
}

impl Sandbox {
    /// A sandbox in a mounted root, set up by this binary.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), helper: "/proc/self/exe".into() }
    }

    /// Runs it and waits until every process of it is gone. Lines go to `line` as they come.
    ///
    /// # Errors
    /// That the sandbox could not be set up ([`crate::error::Kind::Host`] or `Base`), that there is no such program
    /// (`Step`), that a builtin failed (its own chain and kind, `Step` where it has none), or that stopping was
    /// asked for ([`crate::error::Interrupted`]). Everything inside is gone then too. A program that failed is an
    /// [`Outcome`], not an error.
    ///
    /// # Cancellation
    /// Dropped before it is done, it ends everything inside, but does not wait for that.
    pub async fn run(
        &self,
        run: &Run,
        stop: &Stop,
        line: &mut (dyn FnMut(Stream, &str) + Send),
    ) -> Result<Outcome> {
        run::run(self, run, stop, line).await
    }
}
