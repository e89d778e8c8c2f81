//! Process 2: becomes the program, or is the builtin.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{chdir, execve, setsid};

use super::terminal::Terminal;
use super::wire::{self, Failed, Message, Spec};
use super::{Builtin, Program};
use crate::error::{Failure, Kind};
use crate::sys;

/// PATH where the run sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the program in this process.
pub(super) fn main(control: &UnixStream, spec: &Spec, terminal: Option<Terminal>, builtins: &[Builtin]) -> ! {
    let result = run(spec, terminal, builtins);
    if let Err(error) = std::io::stdout().flush().context("writing its output").and(result) {
        // Should the caller be gone, nobody is left to be told.
        let told = wire::send_message(control, &Message::Failed(Failed::of(&error, Kind::Step)));
        sys::process::exit_now(if told.is_ok() { 1 } else { 2 });
    }
    sys::process::exit_now(0)
}

fn run(spec: &Spec, terminal: Option<Terminal>, builtins: &[Builtin]) -> Result<()> {
    setsid().context("starting a session")?;
    match terminal {
        Some(terminal) => terminal.become_standard()?,
        None => own_streams(spec)?,
    }
    sys::process::default_signals().context("resetting signals")?;
    let cwd = spec.run.cwd.as_deref().unwrap_or(std::path::Path::new("/"));
    chdir(cwd).map_err(|errno| {
        anyhow::Error::from(errno).context(Failure::new(
            Kind::Step,
            format!("the working directory {} cannot be entered", cwd.display()),
        ))
    })?;
    match &spec.run.program {
        Program::Argv(argv) => execute(spec, argv),
        Program::Builtin(name, argument) => {
            let Some((_, function)) = builtins.iter().find(|(known, _)| known == name) else {
                bail!("no builtin is called {name}");
            };
            function(argument.clone())
        }
    }
}

/// Makes the standard streams fit to be handed to a stranger.
fn own_streams(spec: &Spec) -> Result<()> {
    // What was inherited is the builder's /dev/null itself: root could change its mode through the descriptor.
    let null = File::open("/dev/null").context("opening /dev/null")?;
    match &spec.run.input {
        Some(input) => nix::unistd::dup2_stdin(input).context("reading its input")?,
        None => nix::unistd::dup2_stdin(&null).context("reading from /dev/null")?,
    }
    // So that `> /dev/stderr` works for another user too: opening it asks for the pipe's permission.
    let mode = Mode::from_bits_truncate(0o622);
    fchmod(std::io::stdout(), mode)
        .and_then(|()| fchmod(std::io::stderr(), mode))
        .context("opening the output to other users")
}

/// Limits that programs are known to depend on, whatever the builder's own are.
pub(super) fn set_limits() -> Result<()> {
    let set = |resource, soft, hard| {
        let (_, most) = getrlimit(resource)?;
        setrlimit(resource, std::cmp::min(soft, most), std::cmp::min(hard, most))
    };
    // Old programs close every descriptor up to the limit.
    set(Resource::RLIMIT_NOFILE, 1024, 524_288).context("limiting open files")?;
    // 1 and not 0: the kernel then runs no core_pattern handler of the builder's either (core(5)). The filter
    // keeps it so.
    set(Resource::RLIMIT_CORE, 1, 1).context("limiting core files")?;
    // Where memory runs out, rather a step than the bake or something else of the builder.
    std::fs::write("/proc/self/oom_score_adj", "500").context("making the program the first to go")
}

fn execute(spec: &Spec, argv: &[String]) -> Result<()> {
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        bail!("no program is named");
    };
    let environment = environment(&spec.run.env);
    let c_string = |text: &str| CString::new(text).with_context(|| format!("{text:?} holds a NUL byte"));
    let arguments = argv.iter().map(|word| c_string(word)).collect::<Result<Vec<_>>>()?;
    let variables = environment
        .iter()
        .map(|(name, value)| c_string(&format!("{name}={value}")))
        .collect::<Result<Vec<_>>>()?;
    let path =
        environment.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    let candidates: Vec<String> = if program.contains('/') {
        vec![program.clone()]
    } else {
        path.split(':')
            .filter(|folder| !folder.is_empty())
            .map(|folder| format!("{folder}/{program}"))
            .collect()
    };
    sys::process::close_from_on_exec(3).context("closing descriptors")?;
    let mut denied = None;
    for candidate in &candidates {
        let errno = match execve(&c_string(candidate)?, &arguments, &variables) {
            Err(errno) => errno,
            Ok(never) => match never {},
        };
        match errno {
            Errno::ENOENT if std::path::Path::new(OsStr::from_bytes(candidate.as_bytes())).exists() => {
                bail!(
                    Failure::new(Kind::Step, format!("{candidate} needs an interpreter that the image lacks"))
                        .hint("look at its first line, or at `readelf -l` for a binary's loader")
                );
            }
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => denied = Some(candidate),
            Errno::ENOEXEC => bail!(
                Failure::new(Kind::Step, format!("{candidate} is not a program that this machine can run"))
                    .hint("a script's first line must name its interpreter (#!/bin/sh); a binary must be of this architecture")
            ),
            errno => return Err(errno).with_context(|| format!("executing {candidate}")),
        }
    }
    if let Some(candidate) = denied {
        bail!(
            Failure::new(Kind::Step, format!("{candidate} is not executable"))
                .hint("set its mode to 0755 (chmod +x)")
        );
    }
    let searched = if program.contains('/') { String::new() } else { format!(" in {path}") };
    let (who, hint) = match spec.run.outside {
        true => ("this builder", "install the package that holds it on the builder"),
        false => ("the image", "install the package that holds it in an earlier step"),
    };
    bail!(Failure::new(Kind::Step, format!("{who} has no program {program}{searched}")).hint(hint))
}

/// The whole environment, sorted: the run's, and the sandbox's own where the run sets nothing.
pub fn environment(of_run: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut all = of_run.clone();
    let defaults = [("PATH", DEFAULT_PATH), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "dumb")];
    for (name, value) in defaults {
        all.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    all.into_iter().collect()
}
