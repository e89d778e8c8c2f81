//! The caller's side: starts the helper, passes its output on, and ends it.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::lines::Lines;
use super::wire::{self, Received, Spec};
use super::{HELPER, Outcome, Run, Sandbox, Stream, terminal};
use crate::error::{Failure, Interrupted, Kind};
use crate::stop::Stop;

/// The caller's end of the control socket. Once it is closed, the helper ends the sandbox.
struct Control(Arc<UnixStream>);

impl Control {
    fn end(&self) {
        // Not connected any more: the helper is gone already.
        if let Err(error) = self.0.shutdown(Shutdown::Both) {
            tracing::trace!("closing the sandbox's control socket: {error}");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why a run is ended before its program ended.
enum Ending {
    Stopped(Interrupted),
    TimedOut,
}

pub(super) async fn run(
    sandbox: &Sandbox,
    run: &Run,
    stop: &Stop,
    line: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<Outcome> {
    stop.check()?;
    let (ours, theirs) = UnixStream::pair().context("making the sandbox's control socket")?;
    let mut child = start(sandbox, theirs)?;
    let control = Control(Arc::new(ours));
    let spec = Spec { root: sandbox.root.clone(), run: with_terminal(run) };
    let mut message = converse(Arc::clone(&control.0), spec);

    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (mut out_lines, mut err_lines) = (Lines::default(), Lines::default());
    let (mut out_bytes, mut err_bytes) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let deadline = run.timeout.map(|timeout| Instant::now() + timeout);
    let mut ending: Option<Ending> = None;
    let mut told: Option<Result<Received>> = None;
    let mut status = None;
    while out.is_some() || err.is_some() || told.is_none() || status.is_none() {
        tokio::select! {
            count = read(&mut out, &mut out_bytes), if out.is_some() => {
                pass(&mut out, count, &out_bytes, &mut out_lines, &mut |text| line(Stream::Out, text))?;
            }
            count = read(&mut err, &mut err_bytes), if err.is_some() => {
                pass(&mut err, count, &err_bytes, &mut err_lines, &mut |text| line(Stream::Err, text))?;
            }
            answer = &mut message, if told.is_none() => {
                told = Some(answer.context("listening to the sandbox").flatten());
            }
            ended = child.wait(), if status.is_none() => {
                status = Some(ended.context("waiting for the sandbox's helper")?);
            }
            interrupted = stop.requested(), if ending.is_none() => {
                ending = Some(Ending::Stopped(interrupted));
                control.end();
            }
            () = until(deadline), if ending.is_none() && told.is_none() => {
                ending = Some(Ending::TimedOut);
                control.end();
            }
        }
    }
    match (ending, told) {
        (Some(Ending::Stopped(interrupted)), _) => Err(interrupted.into()),
        (_, Some(Ok(Received::Message(message)))) => message.into_outcome(),
        (Some(Ending::TimedOut), _) => Ok(Outcome::TimedOut),
        (None, Some(Err(error))) => Err(error),
        (None, _) => Err(killed(status)),
    }
}

fn start(sandbox: &Sandbox, control: UnixStream) -> Result<Child> {
    let mut command = Command::new(&sandbox.helper);
    command
        .arg(HELPER)
        // Nothing of the caller's environment, credentials above all, is even in the helper's memory.
        .env_clear()
        .stdin(OwnedFd::from(control))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir("/")
        // Not for the terminal's ^C: the caller ends the sandbox in its own way.
        .process_group(0);
    command.spawn().with_context(|| {
        Failure::new(Kind::Host, format!("starting the sandbox's helper {}", sandbox.helper.display()))
    })
}

/// A run at a terminal takes the terminal's kind along.
fn with_terminal(run: &Run) -> Run {
    let mut run = run.clone();
    if run.interactive
        && let Ok(kind) = std::env::var("TERM")
    {
        run.env.entry("TERM".to_owned()).or_insert(kind);
    }
    run
}

/// Sends the spec and waits for the outcome, on a thread of its own; a terminal that comes is relayed meanwhile.
fn converse(control: Arc<UnixStream>, spec: Spec) -> JoinHandle<Result<Received>> {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = wire::send_spec(&control, &spec) {
            // The helper may have told why it did not listen.
            return match wire::receive(&control) {
                Ok(received @ Received::Message(_)) => Ok(received),
                _ => Err(error),
            };
        }
        match wire::receive(&control)? {
            Received::Terminal(master) => {
                let master = Arc::new(master);
                let resized = follow_size(&master);
                let relayed = terminal::relay(&master);
                resized.abort();
                relayed?;
                wire::receive(&control)
            }
            other => Ok(other),
        }
    })
}

/// Keeps the sandbox's terminal at the size of the caller's.
fn follow_size(master: &Arc<OwnedFd>) -> JoinHandle<()> {
    let master = Arc::clone(master);
    tokio::spawn(async move {
        let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
        while changes.recv().await.is_some() {
            terminal::fit(&master);
        }
    })
}

async fn read<R: AsyncRead + Unpin>(stream: &mut Option<R>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => std::future::pending().await,
    }
}

fn pass<R>(
    stream: &mut Option<R>,
    count: std::io::Result<usize>,
    bytes: &[u8],
    lines: &mut Lines,
    line: &mut dyn FnMut(&str),
) -> Result<()> {
    match count.context("reading the program's output")? {
        0 => {
            *stream = None;
            lines.finish(line);
        }
        count => lines.push(bytes.get(..count).unwrap_or_default(), line),
    }
    Ok(())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn killed(status: Option<std::process::ExitStatus>) -> anyhow::Error {
    let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
    anyhow!(
        Failure::new(Kind::Host, format!("the sandbox's helper ended without an outcome ({status})"))
            .hint("was it killed, by somebody or for want of memory? `dmesg | tail` tells")
    )
}
