//! The sandbox's init: process 1 of its PID namespace. It builds the root, enters it, gives up what those
//! inside must not have, starts the program as process 2, reaps, and when the program has ended ends itself,
//! upon which the kernel ends every process that is left.
//!
//! It makes itself undumpable: from inside, /proc/1/root, /proc/1/fd and /proc/1/exe (the helper's own file,
//! through which a container's root once rewrote the runtime, CVE-2019-5736) cannot be opened, and it cannot be
//! traced.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, setgroups, sethostname, setsid};

use super::cgroup::Cgroup;
use super::wire::{self, Failed, Message, Spec};
use super::{Builtin, Network, caps, egress, outside, payload, root, seccomp, terminal};
use crate::error::Kind;
use crate::sys;

/// Runs the init and ends the process. `alive` is hung up when the first helper is gone.
pub(super) fn main(
    control: &UnixStream,
    spec: &Spec,
    resolver: Option<&[u8]>,
    cgroup: Option<&Cgroup>,
    alive: &OwnedFd,
    builtins: &[Builtin],
) -> ! {
    let message = run(control, spec, resolver, cgroup, alive, builtins).unwrap_or_else(|error| {
        Message::Failed(Failed::of(&error.context("setting up the sandbox"), Kind::Host))
    });
    sys::process::exit_now(i32::from(wire::send_message(control, &message).is_err()))
}

fn run(
    control: &UnixStream,
    spec: &Spec,
    resolver: Option<&[u8]>,
    cgroup: Option<&Cgroup>,
    alive: &OwnedFd,
    builtins: &[Builtin],
) -> Result<Message> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("tying the sandbox to its helper")?;
    if sys::process::hung_up(alive.as_fd(), 0)? {
        // It died before the tie was made.
        sys::process::exit_now(1);
    }
    if let Some(cgroup) = cgroup {
        cgroup.join()?;
    }
    setsid().context("starting a session")?;
    umask(Mode::from_bits_truncate(0o022));
    let run = &spec.run;
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    if !run.outside {
        namespaces |= CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWCGROUP;
    }
    match run.network {
        Network::Host => egress::verify()?,
        Network::None => namespaces |= CloneFlags::CLONE_NEWNET,
        Network::Builder if run.outside => {}
        Network::Builder => anyhow::bail!("the builder's whole network is not for a run in a root"),
    }
    unshare(namespaces).context("unsharing namespaces")?;
    if !run.outside {
        // A name that every image can resolve, and that gives nothing of the builder away to what is installed.
        sethostname("localhost").context("setting the host name")?;
    }
    if run.network == Network::None {
        sys::net::loopback_up().context("setting up the loopback interface")?;
    }
    match run.outside {
        true => outside::enter(spec)?,
        false => root::enter(spec, resolver)?,
    }

    let terminal = if run.interactive { Some(terminal::open()?) } else { None };
    if let Some(terminal) = &terminal {
        wire::send_terminal(control, terminal.master.as_fd())?;
    }
    match run.outside {
        true => payload::set_limits()?,
        false => confine(spec)?,
    }
    let program = match sys::process::fork().context("forking for the program")? {
        ForkResult::Child => payload::main(control, spec, terminal, builtins),
        ForkResult::Parent { child } => child,
    };
    drop(terminal);
    reap(program)
}

/// Gives up what those inside must not have. Everything forked from here on inherits it.
fn confine(spec: &Spec) -> Result<()> {
    prctl::set_dumpable(false).context("making the sandbox's init undumpable")?;
    setgroups(&[]).context("leaving supplementary groups")?;
    payload::set_limits()?;
    if sys::process::landlock_version() >= 6 {
        sys::process::landlock_scope().context("entering a Landlock domain")?;
    }
    // While CAP_SYS_ADMIN is held: the filter must not need no_new_privs, which would break su and sudo inside.
    let filter = seccomp::filter(spec.run.suppress_sync, spec.run.mounts)?;
    sys::process::install_filter(&filter).context("installing the system call filter")?;
    caps::drop_to_kept(spec.run.mounts)?;
    // Changes of credentials may clear it.
    prctl::set_pdeathsig(Signal::SIGKILL).context("tying the sandbox to its helper")
}

/// Reaps whatever ends until it is the program.
fn reap(program: Pid) -> Result<Message> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, status)) if pid == program => return Ok(Message::Exited(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Ok(Message::Signaled(signal as i32));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("waiting for the program"),
        }
    }
}
