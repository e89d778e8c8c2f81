//! Inside: runs what is asked for over the socket, each request on a thread of its own.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::wire::{self, End, Kind, Request};
use crate::sys;

/// How long output is waited for once its program has ended: what it left in the background may hold it open for
/// ever.
const GRACE: Duration = Duration::from_secs(2);

/// How the programs run.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Order {
    /// Their environment, but for what the sandbox sets.
    pub(super) env: BTreeMap<String, String>,
    /// Their working directory.
    pub(super) cwd: Option<PathBuf>,
}

/// The builtin: answers on the socket that is its standard input until it is ended.
pub(crate) fn serve(argument: serde_json::Value) -> Result<()> {
    let order: Order = serde_json::from_value(argument).context("reading the order")?;
    let order = Arc::new(order);
    // A client that went away is no reason to end.
    sys::process::ignore_broken_pipes().context("ignoring broken pipes")?;
    let socket = io::stdin().as_fd().try_clone_to_owned().context("taking the socket")?;
    let null = File::open("/dev/null").context("opening /dev/null")?;
    nix::unistd::dup2_stdin(&null).context("reading from /dev/null")?;
    let listener = UnixListener::from(socket);
    loop {
        let (client, _) = listener.accept().context("waiting for what is to be run")?;
        let order = Arc::clone(&order);
        thread::Builder::new()
            .spawn(move || answer(client, &order))
            .context("starting a thread for a request")?;
    }
}

/// The client's end, written to by several threads, a frame at a time.
type Reply = Arc<Mutex<UnixStream>>;

fn answer(client: UnixStream, order: &Order) {
    let Ok(reply) = client.try_clone().map(|reply| Arc::new(Mutex::new(reply))) else { return };
    let end = wire::receive_request(&client).and_then(|request| match request {
        Request::Run(argv) => run(&argv, &client, &reply, order),
        Request::Put(path) => put(&path, &client),
        Request::Fetch(path) => fetch(&path, &reply),
    });
    let end = end.unwrap_or_else(|error| End::Failed(error.to_string()));
    // A client that is gone needs no end.
    drop(serde_json::to_vec(&end).map(|body| send(&reply, Kind::End, &body)));
}

fn send(reply: &Reply, kind: Kind, body: &[u8]) -> io::Result<()> {
    wire::send(&*reply.lock().unwrap_or_else(PoisonError::into_inner), kind, body)
}

fn run(argv: &[String], client: &UnixStream, reply: &Reply, order: &Order) -> io::Result<End> {
    let Some((program, arguments)) = argv.split_first() else {
        return Ok(End::Failed("no program is named".to_owned()));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(crate::sandbox::environment(&order.env))
        .current_dir(order.cwd.as_deref().unwrap_or(Path::new("/")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(End::Failed(format!("running {program} in the image: {error}"))),
    };
    let (done, wait_done) = channel();
    if let Some(out) = child.stdout.take() {
        pass(out, Kind::Out, reply, &done);
    }
    if let Some(err) = child.stderr.take() {
        pass(err, Kind::Err, reply, &done);
    }
    drop(done);
    if let (Some(mut input), Ok(mut client)) = (child.stdin.take(), client.try_clone()) {
        // It may not read all, or nothing, of what is there for it.
        thread::spawn(move || drop(io::copy(&mut client, &mut input)));
    }
    let status = end_of(&mut child, client)?;
    while wait_done.recv_timeout(GRACE).is_ok() {}
    Ok(match (status.code(), status.signal()) {
        (Some(status), _) => End::Exited(status),
        (None, signal) => End::Signaled(signal.unwrap_or_default()),
    })
}

/// Waits for the program; when the client goes away, the program and its process group are ended.
fn end_of(child: &mut Child, client: &UnixStream) -> io::Result<std::process::ExitStatus> {
    let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    // Not waited for yet, so that its number is nobody else's.
    let ended: OwnedFd = sys::process::pidfd(group)?;
    let (gone, _) = sys::process::wait_hangup_or_readable(client.as_fd(), ended.as_fd())?;
    if gone {
        // Ended meanwhile is as good.
        killpg(group, Signal::SIGKILL).unwrap_or_default();
    }
    child.wait()
}

/// Passes a stream of the program on, up to its end.
fn pass(mut from: impl Read + Send + 'static, kind: Kind, reply: &Reply, done: &Sender<()>) {
    let (reply, done) = (Arc::clone(reply), done.clone());
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if send(&reply, kind, buffer.get(..count).unwrap_or_default()).is_err() {
                break;
            }
        }
        // The program's own end may have been told already.
        done.send(()).unwrap_or_default();
    });
}

fn put(path: &Path, mut client: &UnixStream) -> io::Result<End> {
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        io::copy(&mut client, &mut file)?;
        file.flush()
    };
    Ok(ended(written, "writing", path))
}

fn fetch(path: &Path, reply: &Reply) -> io::Result<End> {
    let sent = || -> io::Result<()> {
        // Opening a pipe would wait for its writer.
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                count => send(reply, Kind::Out, buffer.get(..count).unwrap_or_default())?,
            }
        }
    };
    Ok(ended(sent, "reading", path))
}

fn ended(mut work: impl FnMut() -> io::Result<()>, doing: &str, path: &Path) -> End {
    match work() {
        Ok(()) => End::Exited(0),
        Err(error) => End::Failed(format!("{doing} {} in the image: {error}", path.display())),
    }
}
