//! A cgroup (version 2) for each run: what its network policy is attached to, what its limits are set on, and a
//! second way of ending all of it.
//!
//! Without limits it is made in the caller's own cgroup, so that what holds for the caller (a systemd
//! service's limits, its stop) holds for the run. A cgroup that has processes cannot hand controllers on, so
//! with limits it is made in `bakehouse/` at the top of the hierarchy.

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Limits;
use crate::error::{Failure, Kind};
use crate::maker::Maker;
use crate::sys;

/// The first part of the name of every run's cgroup; the helper's PID and start time follow.
const PREFIX: &str = "bakehouse-run-";

/// The parent of those with limits, at the top of the hierarchy.
const PARENT: &str = "bakehouse";

/// A run's cgroup.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    folder: fs::File,
}

impl Cgroup {
    /// Makes one with these limits. None: this host has no cgroup of version 2, and no limits were asked for.
    pub(super) fn make(limits: &Limits) -> Result<Option<Self>> {
        let Some(top) = hierarchy()? else {
            if *limits == Limits::default() {
                return Ok(None);
            }
            bail!(
                Failure::new(Kind::Host, "limits need cgroups of version 2, which this host has not mounted")
                    .hint("mount -t cgroup2 none /sys/fs/cgroup/unified, or leave the limits out")
            );
        };
        let name = format!("{PREFIX}{}", Maker::own());
        let path = if *limits == Limits::default() {
            let own = own_path().map(|own| top.join(own.trim_start_matches('/'))).unwrap_or(top.clone());
            make_in(&own, &name).or_else(|_| make_in(&top, &name))?
        } else {
            limited(&top, &name, limits)?
        };
        let folder = fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let cgroup = Self { path, folder };
        cgroup.set(limits)?;
        Ok(Some(cgroup))
    }

    fn set(&self, limits: &Limits) -> Result<()> {
        let write = |file: &str, value: String| {
            let path = self.path.join(file);
            fs::write(&path, &value).with_context(|| format!("writing {value} to {}", path.display()))
        };
        if let Some(bytes) = limits.memory {
            write("memory.max", bytes.to_string())?;
            // Else the rest would go to swap, where there is some.
            if self.path.join("memory.swap.max").exists() {
                write("memory.swap.max", "0".to_owned())?;
            }
        }
        if let Some(count) = limits.processes {
            write("pids.max", count.to_string())?;
        }
        if let Some(percent) = limits.cpu_percent {
            // Microseconds of each 100 ms (Documentation/admin-guide/cgroup-v2.rst, cpu.max).
            write("cpu.max", format!("{} 100000", u64::from(percent) * 1000))?;
        }
        Ok(())
    }

    /// Moves the calling process in.
    pub(super) fn join(&self) -> Result<()> {
        let path = self.path.join("cgroup.procs");
        fs::write(&path, "0").with_context(|| format!("joining the cgroup {}", self.path.display()))
    }

    /// Whether the kernel ended processes of it for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        fs::read_to_string(self.path.join("memory.events")).is_ok_and(|events| {
            events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
        })
    }

    /// Ends everything in it and removes it.
    pub(super) fn finish(self) -> Result<()> {
        // Empty by now, since the PID namespace is; cgroup.kill (Linux 5.14) is for what is not.
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if !is_gone(&error) => {
                return Err(error).with_context(|| format!("ending the cgroup {}", self.path.display()));
            }
            _ => {}
        }
        remove(&self.path)?;
        if let Some(parent) = self.path.parent().filter(|parent| parent.ends_with(PARENT)) {
            // Other runs may be in it: theirs to remove then.
            let left = fs::remove_dir(parent);
            tracing::trace!("removing {}: {left:?}", parent.display());
        }
        Ok(())
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// How long the processes of a cgroup that were ended may take to be gone, in milliseconds.
const EMPTYING: i32 = 10_000;

/// Removes a cgroup once it is empty.
fn remove(path: &Path) -> Result<()> {
    let context = || format!("removing the cgroup {}", path.display());
    loop {
        let events = path.join("cgroup.events");
        let watched = match fs::File::open(&events) {
            Ok(watched) => watched,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error).with_context(context),
        };
        // Read through the watched descriptor: a change after this wakes the wait.
        let now = match std::io::read_to_string(&watched) {
            Err(error) if is_gone(&error) => return Ok(()),
            now => now.with_context(context)?,
        };
        if !now.lines().any(|line| line == "populated 1") {
            break;
        }
        if !sys::process::changed(watched.as_fd(), EMPTYING).with_context(context)? {
            bail!("the cgroup {} does not become empty", path.display());
        }
    }
    match fs::remove_dir(path) {
        Err(error) if !is_gone(&error) => Err(error).with_context(context),
        _ => Ok(()),
    }
}

/// Makes a cgroup whose parent hands on the controllers that the limits need.
fn limited(top: &Path, name: &str, limits: &Limits) -> Result<PathBuf> {
    let parent = top.join(PARENT);
    enable_controllers(top, limits)?;
    // Another run may take the parent away at its end, until there is a child.
    for _ in 0..100 {
        match fs::create_dir(&parent) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("making the cgroup {}", parent.display()));
            }
            _ => {}
        }
        match enable_controllers(&parent, limits).and_then(|()| make_in(&parent, name)) {
            Err(_) if !parent.exists() => {}
            other => return other,
        }
    }
    bail!("the cgroup {} does not stay", parent.display())
}

fn make_in(parent: &Path, name: &str) -> Result<PathBuf> {
    let path = parent.join(name);
    fs::create_dir(&path).with_context(|| format!("making the cgroup {}", path.display()))?;
    // In a threaded subtree no process can be put into it.
    match fs::read_to_string(path.join("cgroup.type")).as_deref().map(str::trim) {
        Ok("domain") | Err(_) => Ok(path),
        Ok(kind) => {
            let kind = kind.to_owned();
            remove(&path)?;
            bail!("the cgroup {} would be {kind}", path.display())
        }
    }
}

fn enable_controllers(parent: &Path, limits: &Limits) -> Result<()> {
    let wanted = [
        ("memory", limits.memory.is_some()),
        ("pids", limits.processes.is_some()),
        ("cpu", limits.cpu_percent.is_some()),
    ];
    for (controller, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
        let path = parent.join("cgroup.subtree_control");
        fs::write(&path, format!("+{controller}")).with_context(|| {
            Failure::new(Kind::Host, format!("this host's cgroups (version 2) cannot limit {controller}"))
                .hint("boot with systemd.unified_cgroup_hierarchy=1, or leave the limit out")
        })?;
    }
    Ok(())
}

/// Where the hierarchy of version 2 is mounted.
pub(super) fn hierarchy() -> Result<Option<PathBuf>> {
    let mounts =
        fs::read_to_string("/proc/thread-self/mountinfo").context("reading /proc/thread-self/mountinfo")?;
    Ok(mounts.lines().find_map(cgroup2_mount))
}

/// The mount point in a line of mountinfo (proc(5)), if it is of the hierarchy's top.
fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    let usable = after.split(' ').next()? == "cgroup2" && root == "/" && !place.contains('\\');
    usable.then(|| PathBuf::from(place))
}

/// This process's cgroup, from the hierarchy's top.
fn own_path() -> Option<String> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// How far below the top cgroups are looked for, and among how many.
const DEEP: usize = 16;
const MANY: usize = 20_000;

/// No helper takes so long from its start until it is in its cgroup.
const STARTING: Duration = Duration::from_secs(60);

/// Removes the cgroups of helpers that were killed (and took the sandbox with them), wherever their bakes ran: for `gc`.
/// Gives how many.
///
/// # Errors
/// That the mounts cannot be read, or the first of what kept a cgroup from being removed; all others went nevertheless.
pub fn sweep() -> Result<usize> {
    let Some(top) = hierarchy()? else { return Ok(0) };
    let own = own_path().map(|own| top.join(own.trim_start_matches('/')));
    let near: Vec<_> = [Some(top.join(PARENT)), Some(top.clone()), own].into_iter().flatten().collect();
    let mut folders = VecDeque::from([(top, 0)]);
    let (mut seen, mut swept, mut wrong) = (0, 0, None);
    while let Some((folder, depth)) = folders.pop_front() {
        // What cannot be listed went meanwhile.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            let maker = name.to_str().and_then(|name| Maker::read(name.strip_prefix(PREFIX)?));
            match maker {
                Some(maker)
                    if maker.is_over() && (near.contains(&folder) || is_idle(&maker, &entry.path())) =>
                {
                    match remove(&entry.path()) {
                        Ok(()) => swept += 1,
                        Err(error) => wrong = wrong.or(Some(error)),
                    }
                }
                // All that is in a run's is the run's.
                Some(_) => {}
                None if depth < DEEP && seen < MANY => {
                    seen += 1;
                    folders.push_back((entry.path(), depth + 1));
                }
                None => {}
            }
        }
    }
    wrong.map_or(Ok(swept), Err)
}

/// Whether a cgroup far from this process is nobody's: its maker, which seems to be over, may be a live one of a
/// container. That would be in it by now.
fn is_idle(maker: &Maker, path: &Path) -> bool {
    let events = fs::read_to_string(path.join("cgroup.events"));
    let is_empty = events.is_ok_and(|events| events.lines().any(|line| line == "populated 0"));
    is_empty && maker.age().is_some_and(|age| age >= STARTING)
}

/// Whether a cgroup went between the finding of it and the look: its files answer with ENODEV then.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_in_mountinfo() {
        let line = "34 24 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(cgroup2_mount(line), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_mount("34 24 0:28 /x /mnt rw - cgroup2 none rw"), None);
        assert_eq!(cgroup2_mount("34 24 0:28 / /mnt rw - cgroup none rw"), None);
        assert_eq!(cgroup2_mount("34 24"), None);
    }
}
