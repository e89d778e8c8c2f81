//! A run on the builder itself: for programs that are the builder's own and work on the root from outside, by way
//! of runs in it.
//!
//! It has a PID namespace, so that all of it ends at once, and its cgroup, so that neither it can reach the
//! instance's metadata service. Its mount namespace hides what bakes have mounted: to the root there is no way for
//! it but by the sandbox. It keeps every right of the builder's root user, so this is no wall against it.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount as mount_old, umount2};
use nix::sys::stat::{Mode, mkdirat};

use super::own::Own;
use super::root::{self, Root};
use super::secrets;
use super::wire::Spec;
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID};

/// A tmpfs of the run's own, where its binds are seen, with `home` and `tmp` in it.
pub const OWN: &str = "/run/bakehouse";

/// Makes the mounts of this process's namespace those of a run on the builder.
pub(super) fn enter(spec: &Spec) -> Result<()> {
    mount_old(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("making the mounts private")?;
    if !spec.run.sees_root {
        hide_root(spec)?;
    }
    let proc = mount::new_filesystem(c"proc", &[], NOSUID | NODEV | NOEXEC).context("making a procfs")?;
    attach("/proc", &proc)
}

/// Takes the root away, and puts a tmpfs with the run's binds in its place.
fn hide_root(spec: &Spec) -> Result<()> {
    // Sources first: some of them are about to be hidden.
    let binds = spec.run.binds.iter().map(root::source).collect::<Result<Vec<_>>>()?;
    match umount2(&spec.root, MntFlags::MNT_DETACH) {
        // A root that is a folder and no mount.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(errno).context("hiding the root"),
    }
    std::fs::create_dir_all(OWN).with_context(|| format!("making {OWN}"))?;
    let own = mount::new_filesystem(c"tmpfs", &[(c"mode", c"0755")], NOSUID | NODEV)
        .with_context(|| format!("making a tmpfs for {OWN}"))?;
    attach(OWN, &own)?;
    for name in ["home", "tmp"] {
        mkdirat(&own, name, Mode::S_IRWXU).with_context(|| format!("making {OWN}/{name}"))?;
    }
    secrets::provide_in(&own, &spec.run.secrets)?;
    let mut known = Own::default();
    known.add(own.as_fd())?;
    let slash = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("opening the builder's root")?;
    let builder = Root { mount: slash, own: known, scratch: own };
    for (bind, source) in spec.run.binds.iter().zip(binds) {
        root::attach_bind(&builder, bind, &source)
            .with_context(|| format!("binding {} at {}", bind.source.display(), bind.target.display()))?;
    }
    Ok(())
}

fn attach(at: &str, mount: &std::os::fd::OwnedFd) -> Result<()> {
    let place = open(Path::new(at), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("opening {at}"))?;
    mount::attach(mount.as_fd(), place.as_fd()).with_context(|| format!("mounting {at}"))
}
