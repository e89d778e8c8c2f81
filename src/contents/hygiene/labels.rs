//! SELinux labels of what the bake changed.
//!
//! A builder without SELinux writes files that have none, and an image that enforces a policy then denies
//! everything. What each should have is told by the image's own `setfiles`, which runs in the sandbox with no
//! more rights than any step and changes nothing; this process sets it, since only CAP_SYS_ADMIN may set
//! `security.*` attributes where the kernel has no SELinux (xattr(7)). Where the image has no `setfiles`,
//! `/.autorelabel` has the first boot label everything.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::Done;
use crate::recipe::Part;
use crate::sandbox::{Bind, Network, Program, Run, Sandbox};
use crate::stop::Stop;

/// Where setfiles(8) may be.
const SETFILES: [&str; 3] = ["usr/sbin/setfiles", "sbin/setfiles", "usr/bin/setfiles"];

/// Where it sees the list of paths.
const LIST: &str = "/run/bakehouse/changed";

/// An image's policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// The file that says which path has which label, beneath the root.
    contexts: PathBuf,
}

/// A label: a path beneath the root, and the context.
type Label = (PathBuf, String);

/// The policy of the image, where it has one and does not say that it is off.
pub(super) fn policy(root: &Path) -> Result<Option<Policy>> {
    let Some(config) = crate::beneath::read_to_string(root, Path::new("etc/selinux/config"))? else {
        return Ok(None);
    };
    let Some(name) = policy_name(&config) else { return Ok(None) };
    let contexts = Path::new("etc/selinux").join(name).join("contexts/files/file_contexts");
    Ok(crate::beneath::open(root, &contexts)?.map(|_| Policy { contexts }))
}

/// The policy that /etc/selinux/config names, unless it says that SELinux is off.
fn policy_name(config: &str) -> Option<String> {
    let value = |key: &str| {
        // The last one holds, as for libselinux.
        let found = config.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        found.map(|value| value.trim().to_owned())
    };
    let name = value("SELINUXTYPE").unwrap_or_else(|| "targeted".to_owned());
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (matches!(value("SELINUX")?.as_str(), "enforcing" | "permissive") && plain).then_some(name)
}

/// Labels what changed.
///
/// # Errors
/// That a label could not be set, or that stopping was asked for. That they cannot be told is none:
/// `/.autorelabel` is left then.
pub(super) async fn set(
    sandbox: &Sandbox,
    policy: &Policy,
    changed: &[PathBuf],
    unnamed: usize,
    stop: &Stop,
) -> Result<Done> {
    let mut done = Done::new(Part::SelinuxLabels);
    if changed.is_empty() && unnamed == 0 {
        return Ok(done);
    }
    match ask(sandbox, policy, changed, stop).await? {
        Ok(labels) => {
            let root = sandbox.root.clone();
            done.labelled = tokio::task::spawn_blocking(move || label_all(&root, &labels))
                .await
                .context("labelling files")??;
            if unnamed > 0 {
                autorelabel(&sandbox.root)?;
                done.notes.push(format!(
                    "/.autorelabel has the first boot label the rest: {unnamed} names hold a line break or are not UTF-8"
                ));
            }
        }
        Err(why) => {
            autorelabel(&sandbox.root)?;
            done.notes.push(format!("/.autorelabel has the first boot label everything: {why}"));
        }
    }
    Ok(done)
}

fn autorelabel(root: &Path) -> Result<()> {
    let path = root.join(".autorelabel");
    let mut options = std::fs::OpenOptions::new();
    // Without O_NONBLOCK a pipe of that name would have it wait for a reader for ever.
    options.write(true).create(true).mode(0o644).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    options.open(&path).map(drop).with_context(|| format!("writing {}", path.display()))
}

/// Asks the image's setfiles; the inner error is why it cannot tell.
async fn ask(
    sandbox: &Sandbox,
    policy: &Policy,
    changed: &[PathBuf],
    stop: &Stop,
) -> Result<Result<Vec<Label>, String>> {
    let mut program = None;
    for candidate in SETFILES {
        if program.is_none() && crate::beneath::open(&sandbox.root, Path::new(candidate))?.is_some() {
            program = Some(candidate);
        }
    }
    let Some(program) = program else { return Ok(Err("the image has no setfiles".to_owned())) };
    let mut list = tempfile::NamedTempFile::new().context("writing the list of what changed")?;
    for inner in changed {
        writeln!(list, "/{}", inner.display()).context("writing the list of what changed")?;
    }
    list.flush().context("writing the list of what changed")?;
    // Tell only (-n), with what would be done (-v); mounts without labels too (-m), since here none has any.
    let contexts = Path::new("/").join(&policy.contexts).to_string_lossy().into_owned();
    let argv = [&format!("/{program}"), "-n", "-v", "-m", "-f", LIST, &contexts];
    let mut run = Run::new(Program::Argv(argv.map(str::to_owned).to_vec()));
    run.network = Network::None;
    run.timeout = Some(super::LONGEST);
    run.binds = vec![Bind { source: list.path().to_owned(), target: LIST.into(), writable: false }];
    match super::heard(sandbox, &run, "setfiles", stop).await {
        Ok(said) => Ok(Ok(said.lines().filter_map(parse).collect())),
        Err(error) => {
            stop.check()?;
            Ok(Err(format!("{error:#}")))
        }
    }
}

/// What setfiles says: `Would relabel PATH from OLD to NEW`, `… reset PATH context OLD->NEW` before version 2.7.
fn parse(line: &str) -> Option<Label> {
    let (path, label) = if let Some(rest) = line.strip_prefix("Would relabel ") {
        let (rest, label) = rest.rsplit_once(" to ")?;
        (rest.rsplit_once(" from ")?.0, label)
    } else {
        let (_, rest) = line.split_once(" reset ")?;
        let (path, labels) = rest.rsplit_once(" context ")?;
        (path, labels.rsplit_once("->")?.1)
    };
    // user:role:type, and a level where the policy has some.
    let good = label.split(':').count() >= 3 && !label.contains(char::is_whitespace);
    Some((path.strip_prefix('/')?.into(), label.to_owned())).filter(|_| good)
}

fn label_all(root: &Path, labels: &[Label]) -> Result<usize> {
    let Some(folder) = crate::beneath::folder(root, Path::new("/"))? else { return Ok(0) };
    let mut number = 0;
    for (inner, label) in labels {
        let what = || format!("labelling /{}", inner.display());
        // The name may be that of a link, which has a label of its own.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let file = match crate::beneath::resolve(folder.as_fd(), inner, flags) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            file => file.with_context(what)?,
        };
        let value = format!("{label}\0");
        match xattr::set_deref(crate::beneath::handle(&file), "security.selinux", value.as_bytes()) {
            Ok(()) => number += 1,
            // A filesystem that has no labels (the EFI partition's).
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
            Err(error) => return Err(error).with_context(what),
        }
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_the_configurations() {
        let config = "# SELINUX= can take one of these\nSELINUX=enforcing\nSELINUXTYPE=targeted\n";
        assert_eq!(policy_name(config).as_deref(), Some("targeted"));
        assert_eq!(policy_name("SELINUX=permissive\nSELINUXTYPE=mls \n").as_deref(), Some("mls"));
        assert_eq!(policy_name("SELINUX=disabled\nSELINUXTYPE=targeted\n"), None);
        assert_eq!(policy_name("SELINUX=enforcing\nSELINUXTYPE=../../x\n"), None);
        assert_eq!(policy_name(""), None);
    }

    #[test]
    fn a_pipe_in_the_place_of_the_mark_holds_nothing_up() {
        let root = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&root.path().join(".autorelabel"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(autorelabel(root.path()).unwrap_err().to_string().contains(".autorelabel"));
    }

    #[test]
    fn what_setfiles_says_is_understood() {
        let label = "system_u:object_r:etc_t:s0";
        let wanted = Some((PathBuf::from("etc/a from b to c"), label.to_owned()));
        assert_eq!(parse(&format!("Would relabel /etc/a from b to c from <no context> to {label}")), wanted);
        let old = format!("/sbin/setfiles reset /etc/web context system_u:object_r:unlabeled_t:s0->{label}");
        assert_eq!(parse(&old), Some(("etc/web".into(), label.to_owned())));
        for line in
            ["", "Would relabel", "Would relabel x from y to z", "setfiles: conflicting specifications"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
