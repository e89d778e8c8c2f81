//! The first helper: outside the sandbox, single-threaded, it makes the cgroup, starts the sandbox's init and
//! waits until everything is gone.
//!
//! It ends the sandbox when the caller closes the control socket, be it on purpose (a timeout, a stop) or by
//! dying. Should it die itself, the init dies with it (`PR_SET_PDEATHSIG`; a helper with one thread, unlike the
//! caller, may rely on that), and with the init every process of its PID namespace.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Uid, pipe2};

use super::cgroup::Cgroup;
use super::placeholder::Placeholders;
use super::wire::{self, Failed, Message, Received, Spec};
use super::{Builtin, Network, egress, init};
use crate::error::{Failure, Kind};
use crate::sys;

/// Runs the helper and ends the process. The control socket is standard input.
pub(super) fn main(builtins: &[Builtin]) -> ! {
    let status = match control() {
        Ok(control) => {
            let result = supervise(&control, builtins);
            if let Err(error) = result {
                let failed =
                    Message::Failed(Failed::of(&error.context("setting up the sandbox"), Kind::Host));
                i32::from(wire::send_message(&control, &failed).is_err())
            } else {
                0
            }
        }
        Err(_) => 1,
    };
    sys::process::exit_now(status)
}

/// Takes the control socket from standard input, in whose place /dev/null is put, and closes whatever else was
/// inherited.
fn control() -> Result<UnixStream> {
    sys::process::close_from(3)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(UnixStream::from(socket))
}

fn supervise(control: &UnixStream, builtins: &[Builtin]) -> Result<()> {
    let spec = match wire::receive(control)? {
        Received::Spec(spec) => *spec,
        Received::End => return Ok(()),
        other => bail!("expected a spec, got {other:?}"),
    };
    if !Uid::effective().is_root() {
        bail!(Failure::new(Kind::Host, "the sandbox needs root").hint("run it as root, or with sudo"));
    }
    // The caller's keys are not for those inside; a kernel without keyrings has none to give.
    if let Err(errno) = sys::process::new_session_keyring()
        && errno != nix::errno::Errno::ENOSYS
    {
        return Err(errno).context("leaving the caller's keyring");
    }
    let resolver = match spec.run.network {
        Network::Host if !spec.run.outside => builders_resolver()?,
        _ => None,
    };
    let cgroup = Cgroup::make(&spec.run.limits)?;
    if spec.run.network == Network::Host {
        egress::guard(cgroup.as_ref())?;
    }
    let placeholders = match spec.run.outside {
        true => None,
        false => Some(Placeholders::make(&spec.root, resolver.is_some())?),
    };
    let result = run_init(control, &spec, resolver.as_deref(), cgroup.as_ref(), builtins);
    let removed = placeholders.map_or(Ok(()), Placeholders::remove);
    let ended = cgroup.map_or(Ok(()), Cgroup::finish);
    result.and(removed).and(ended)
}

fn builders_resolver() -> Result<Option<Vec<u8>>> {
    match std::fs::read("/etc/resolv.conf") {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("reading the builder's /etc/resolv.conf"),
    }
}

fn run_init(
    control: &UnixStream,
    spec: &Spec,
    resolver: Option<&[u8]>,
    cgroup: Option<&Cgroup>,
    builtins: &[Builtin],
) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWPID).context("unsharing the PID namespace")?;
    // Hung up as soon as this process is gone.
    let (alive, held) = pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
    let child = match sys::process::fork().context("forking the sandbox's init")? {
        ForkResult::Child => {
            drop(held);
            init::main(control, spec, resolver, cgroup, &alive, builtins)
        }
        ForkResult::Parent { child } => child,
    };
    let ended = sys::process::pidfd(child).context("watching the sandbox's init")?;
    let (hung_up, _) = sys::process::wait_hangup_or_readable(control.as_fd(), ended.as_fd())
        .context("waiting for the sandbox's init")?;
    if hung_up {
        // Gone already is as good.
        kill(child, Signal::SIGKILL).or_else(|errno| match errno {
            nix::errno::Errno::ESRCH => Ok(()),
            other => Err(other),
        })?;
    }
    // An init can be waited for only when its whole PID namespace is empty.
    match waitpid(child, None).context("waiting for the sandbox's init")? {
        WaitStatus::Signaled(_, signal, _) if !hung_up => {
            let short = cgroup.is_some_and(Cgroup::ran_out_of_memory);
            let why = if short { ", for want of memory" } else { "" };
            bail!(
                Failure::new(Kind::Step, format!("the sandbox's first process was ended by {signal}{why}"))
                    .hint("give the builder more memory, or the step a higher limit")
            )
        }
        _ => Ok(()),
    }
}
