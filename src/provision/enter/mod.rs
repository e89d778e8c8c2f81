//! A step that runs on the builder (`where = "host"`) and has a way into the sandbox.
//!
//! ```text
//! the step's program, on the builder ── bakehouse-inside ── unix socket ── serve, in the sandbox ── any program there
//! ```
//!
//! Two runs live as long as the step does: one on the builder, of the step's program, and one in the root, of a
//! builtin that answers on a socket that it was handed. So all that the program does in the root is done by
//! processes of the sandbox, in one sandbox for the whole step: its /tmp lasts from one command to the next, and
//! so do processes left in the background. What comes back is the root's word, and no more than bytes to this
//! program.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

mod client;
mod serve;
mod wire;

use crate::error::{Failure, Interrupted, Kind};
use crate::provisioner::StepPlan;
use crate::sandbox::{Bind, DEFAULT_PATH, OUTSIDE_OWN, Outcome, Program, Run, Sandbox, Stream};
use crate::stop::Stop;

pub use client::entry;
pub(super) use serve::serve;

/// The builtin that answers inside.
pub(super) const SERVE: &str = "provision-serve";

/// The way in as the step's program sees it: the socket, and the client.
const DOOR: &str = "/run/bakehouse/door";
/// What the program runs to run something inside.
const CLIENT: &str = "bakehouse-inside";

/// Runs `run`, which is as it would be in the root, on the builder; `folder`, which must not be there, holds the
/// socket meanwhile.
pub(super) async fn run(
    sandbox: &Sandbox,
    run: &Run,
    folder: &Path,
    stop: &Stop,
    line: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<Outcome> {
    stop.check()?;
    let door = Door::open(folder).with_context(|| format!("opening a way in at {}", folder.display()))?;
    let inside = inside(run, &door)?;
    let outside = outside(run, &door);
    let line = Mutex::new(line);
    let told = |stream: Stream, text: &str| {
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        (*line)(stream, text);
    };
    // Whichever ends first ends the other, and both are waited for: nothing of the step is left then.
    let (serving, working) = (Stop::default(), Stop::default());
    let serve = async {
        let ended = sandbox.run(&inside, &serving, &mut |stream, text| told(stream, text)).await;
        working.raise(libc::SIGTERM);
        ended
    };
    let work = async {
        let ended = sandbox.run(&outside, &working, &mut |stream, text| told(stream, text)).await;
        serving.raise(libc::SIGTERM);
        ended
    };
    let both = async { tokio::join!(serve, work) };
    tokio::pin!(both);
    let (served, worked) = tokio::select! {
        both = &mut both => both,
        asked = stop.requested() => {
            working.raise(asked.0);
            both.await
        }
    };
    let closed = door.close();
    stop.check()?;
    let outcome = match (worked, served) {
        (Err(error), Err(served)) if is_interruption(&error) && !is_interruption(&served) => Err(served),
        (Err(error), Ok(served)) if is_interruption(&error) => {
            let message = format!("what answers in the image ended before the step did: {served:?}");
            bail!(Failure::new(Kind::Step, message).hint(
                "did something that the step ran in the image end it, or was memory short? `dmesg | tail` tells"
            ))
        }
        (worked, _) => worked,
    };
    let outcome = outcome?;
    closed?;
    Ok(outcome)
}

fn is_interruption(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Interrupted>().is_some()
}

/// What answers in the root.
fn inside(run: &Run, door: &Door) -> Result<Run> {
    let order = serve::Order { env: run.env.clone(), cwd: run.cwd.clone() };
    let mut inside = run.clone();
    inside.program =
        Program::Builtin(SERVE.to_owned(), serde_json::to_value(&order).context("writing the order")?);
    inside.cwd = None;
    inside.timeout = None;
    inside.input = Some(Arc::clone(&door.listener));
    Ok(inside)
}

/// What works on the builder.
fn outside(run: &Run, door: &Door) -> Run {
    let mut outside = run.clone();
    outside.outside = true;
    outside.cwd = Some(OUTSIDE_OWN.into());
    // The rights are those of what happens in the root; here there are more than these anyhow.
    outside.devices = Vec::new();
    outside.device_names = Vec::new();
    outside.mounts = false;
    outside.env.insert("PATH".to_owned(), format!("{DOOR}:{}", path_of(&run.env)));
    outside.env.insert("HOME".to_owned(), format!("{OUTSIDE_OWN}/home"));
    outside.env.insert("TMPDIR".to_owned(), format!("{OUTSIDE_OWN}/tmp"));
    outside.binds.push(Bind { source: door.folder.clone(), target: DOOR.into(), writable: false });
    outside
}

fn path_of(env: &BTreeMap<String, String>) -> &str {
    env.get("PATH").map_or(DEFAULT_PATH, String::as_str)
}

/// Looks whether this builder has the programs that the steps need on it.
///
/// # Errors
/// [`Kind::Host`]: one that is missing, and whose.
pub fn has_programs<'s>(steps: impl IntoIterator<Item = &'s StepPlan>) -> Result<()> {
    for step in steps {
        for (program, hint) in &step.programs {
            let mut folders = path_of(&step.env).split(':').filter(|folder| !folder.is_empty());
            if !folders.any(|folder| Path::new(folder).join(program).is_file()) {
                let message = format!("this builder has no {program}, which step {:?} needs", step.name);
                return Err(Failure::new(Kind::Host, message).hint(hint).into());
            }
        }
    }
    Ok(())
}

/// A socket that listens, in a folder that nobody else may look into.
struct Door {
    folder: PathBuf,
    listener: Arc<OwnedFd>,
}

impl Door {
    fn open(folder: &Path) -> Result<Self> {
        std::fs::DirBuilder::new().mode(0o700).create(folder)?;
        let opened = File::open(folder)?;
        // The name of a socket holds 107 bytes at most; this one is short wherever the folder is.
        let name = format!("/proc/self/fd/{}/socket", opened.as_raw_fd());
        let listener = Arc::new(OwnedFd::from(UnixListener::bind(name)?));
        // The first process of the run is this binary, whatever has become of its file since.
        symlink("/proc/1/exe", folder.join(CLIENT))?;
        Ok(Self { folder: folder.to_owned(), listener })
    }

    fn close(self) -> Result<()> {
        std::fs::remove_dir_all(&self.folder).with_context(|| format!("removing {}", self.folder.display()))
    }
}
