//! Nothing inside outlives its run, however that ends.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bakehouse::error::Interrupted;
use bakehouse::sandbox::{Bind, Outcome, Run};
use bakehouse::stop::Stop;

use crate::support::roots::{Root, can_make, sh};

/// A pipe with a name that processes inside hold open: who reads it can tell whether any is left.
struct Alive(tempfile::TempDir);

impl Alive {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("alive"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        Self(folder)
    }

    fn pipe(&self) -> PathBuf {
        self.0.path().join("alive")
    }

    fn bind(&self, run: &mut Run) {
        run.binds.push(Bind { source: self.0.path().into(), target: "/run/alive".into(), writable: true });
    }

    /// Opens the reading end, before anything inside opens the other.
    fn watch(&self) -> Watch {
        let mut options = std::fs::File::options();
        Watch(options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(self.pipe()).unwrap())
    }
}

struct Watch(std::fs::File);

impl Watch {
    /// Whether nothing holds the pipe any more.
    fn all_gone(&mut self) -> bool {
        match self.0.read(&mut [0; 64]) {
            Ok(0) => true,
            Ok(_) => self.all_gone(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Leaves a daemon behind as daemons are: forked twice, in a session of its own, deaf to most signals.
const DAEMON: &str = "exec 9>/run/alive/alive; (trap '' HUP TERM INT; setsid sh -c 'sleep 1000 & sleep 1000' </dev/null >/dev/null 2>&1 &) ; echo ready;";

#[test]
fn daemons_are_gone_after_the_run() {
    if !can_make() {
        return;
    }
    let (root, alive) = (Root::new(), Alive::new());
    let mut watch = alive.watch();
    let mut run = sh(&format!("{DAEMON} exit 4"));
    alive.bind(&mut run);
    assert_eq!(root.go(&run).result.unwrap(), Outcome::Exited(4));
    assert!(watch.all_gone());
}

#[test]
fn daemons_that_hold_the_output_do_not_hold_up_the_run() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let ran = root.sh("setsid sleep 1000 & echo started");
    assert_eq!(ran.good(), "started\n");
}

#[test]
fn a_run_whose_time_is_up_is_ended_whole() {
    if !can_make() {
        return;
    }
    let (root, alive) = (Root::new(), Alive::new());
    let mut watch = alive.watch();
    let mut run = sh(&format!("{DAEMON} trap '' TERM INT; while :; do sleep 1000; done"));
    alive.bind(&mut run);
    run.timeout = Some(Duration::from_secs(5));
    let ran = root.go(&run);
    assert_eq!((ran.result.unwrap(), ran.out.as_str()), (Outcome::TimedOut, "ready\n"));
    assert!(watch.all_gone());
}

#[test]
fn a_stop_ends_it_whole() {
    if !can_make() {
        return;
    }
    let (root, alive, stop) = (Root::new(), Alive::new(), Stop::default());
    let mut watch = alive.watch();
    let mut run = sh(&format!("{DAEMON} sleep 1000"));
    alive.bind(&mut run);
    let asked = stop.clone();
    let ran = root.go_with(&run, &stop, move |line| {
        assert_eq!(line, "ready");
        asked.raise(15);
    });
    assert_eq!(ran.refused().downcast_ref(), Some(&Interrupted(15)));
    assert!(watch.all_gone());
    let ran = root.go_with(&run, &stop, |_| {});
    assert!(ran.refused().is::<Interrupted>(), "nothing is started after a stop");
}

/// Not a test: what the tests below start as a process of their own, told what to do by the environment.
#[test]
fn as_a_process_of_its_own() {
    let Some(task) = std::env::var_os("BAKEHOUSE_TEST_TASK") else { return };
    let root = Root::new();
    let mut run = if task == "interactive" {
        let mut run =
            sh("tty; stty size; read line; echo \"got $line\"; [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; exit 5");
        run.interactive = true;
        run
    } else {
        sh(&format!("{DAEMON} sleep 1000"))
    };
    if let Some(folder) = std::env::var_os("BAKEHOUSE_TEST_ALIVE") {
        run.binds.push(Bind { source: folder.into(), target: "/run/alive".into(), writable: true });
    }
    let ran = root.go_with(&run, &Stop::default(), |line| println!("line {line}"));
    println!("outcome {:?}", ran.result);
}

/// `temporary` is where it makes its folders: should it be killed, its caller removes them.
fn process(task: &str, temporary: &tempfile::TempDir) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "sandbox::ending::as_a_process_of_its_own", "--nocapture"])
        .env("BAKEHOUSE_TEST_TASK", task)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Waits (the pipe's own end wakes it) until nothing holds the pipe.
fn wait_until_gone(watch: Watch) {
    let Watch(mut reader) = watch;
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        told.send(reader.read_to_end(&mut rest).is_ok())
    });
    assert!(
        heard.recv_timeout(Duration::from_secs(120)).expect("all gone in time"),
        "something is still alive"
    );
}

/// The process, and its output: closed early, it would be a broken pipe.
fn start_and_wait_until_ready(
    alive: &Alive,
    temporary: &tempfile::TempDir,
) -> (std::process::Child, impl Sized) {
    let mut child = process("daemon", temporary)
        .env("BAKEHOUSE_TEST_ALIVE", alive.0.path())
        .spawn()
        .expect("starting this test again");
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("line ready") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut out, &mut line).unwrap(), 0, "it ended early");
    }
    (child, out)
}

#[test]
fn killing_the_caller_ends_everything() {
    if !can_make() {
        return;
    }
    let alive = Alive::new();
    let watch = alive.watch();
    let temporary = tempfile::tempdir().unwrap();
    let (mut child, _output) = start_and_wait_until_ready(&alive, &temporary);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until_gone(watch);
}

#[test]
fn killing_the_helper_ends_everything() {
    if !can_make() {
        return;
    }
    let alive = Alive::new();
    let watch = alive.watch();
    let temporary = tempfile::tempdir().unwrap();
    let (mut child, _output) = start_and_wait_until_ready(&alive, &temporary);
    let children = format!("/proc/{}/task", child.id());
    let helper = std::fs::read_dir(children)
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .find_map(|list| list.split_whitespace().next()?.parse().ok())
        .expect("a helper");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(helper), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_until_gone(watch);
    child.wait().unwrap();
    bakehouse::sandbox::sweep().unwrap();
    assert_eq!(cgroups_of(&helper.to_string()), 0);
}

#[test]
fn an_interactive_run_has_a_terminal_of_its_own() {
    if !can_make() {
        return;
    }
    use std::io::Write as _;
    let temporary = tempfile::tempdir().unwrap();
    let mut child = process("interactive", &temporary).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["/dev/pts/0", "got typed", "outcome Ok(Exited(5))"] {
        assert!(text.contains(part), "{text}");
    }
}

/// How many cgroups a helper has left at the top of the hierarchy.
fn cgroups_of(helper: &str) -> usize {
    assert!(!helper.is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let tops = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    });
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    let prefix = format!("bakehouse-run-{helper}-");
    tops.flat_map(|top| [top.join(&own), top.clone(), top.join("bakehouse")])
        .filter_map(|folder| folder.read_dir().ok())
        .flat_map(|entries| entries.flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .count()
}

#[test]
fn no_cgroup_is_left() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let (mut helper, mut during, stop) = (String::new(), 0, Stop::default());
    let ran = root.go_with(&sh("cat /proc/self/cgroup; echo all; sleep 1000"), &stop, |line| {
        if line == "all" {
            helper = std::fs::read_to_string("/proc/thread-self/children").unwrap().trim().to_owned();
            during = cgroups_of(&helper);
            stop.raise(15);
        }
    });
    if during == 0 {
        eprintln!("skipped: no cgroups of version 2");
        return;
    }
    assert!(ran.out.lines().any(|line| line == "0::/"), "its own cgroup is all that it sees: {}", ran.out);
    assert!(ran.refused().is::<Interrupted>());
    assert_eq!(cgroups_of(&helper), 0);
}
