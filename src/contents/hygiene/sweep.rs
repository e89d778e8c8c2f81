//! Takes out what the bake itself made.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::before::{Before, files_of, small_of, trees_of};
use super::small::{Became, set_modified};
use super::tree::{self, Was};
use super::{Answer, ByPath, Done, Order, audit, places, shown};
use crate::recipe::{Audit, Part};

/// The builtin: cleans, looks for what should not be there, and answers as one line of JSON.
pub(super) fn run(argument: serde_json::Value) -> Result<()> {
    let order: Order = serde_json::from_value(argument).context("reading what the base had")?;
    let root = Path::new("/");
    let mut answer = Answer { parts: clean(root, &order)?, ..Answer::default() };
    if order.changed || order.spec.audit != Audit::Off {
        audit::look(root, &order, &mut answer)?;
    }
    println!("{}", serde_json::to_string(&answer).context("writing the answer")?);
    Ok(())
}

/// Cleans beneath `root`.
pub(super) fn clean(root: &Path, order: &Order) -> Result<Vec<Done>> {
    let mut all = Vec::new();
    // Labels are not set from inside.
    let parts = order.spec.parts.iter().filter(|part| **part != Part::SelinuxLabels);
    for part in parts {
        let done = clean_part(root, *part, &order.before);
        all.push(done.with_context(|| format!("cleaning the image of its {}", part.title()))?);
    }
    Ok(all)
}

fn clean_part(root: &Path, part: Part, before: &Before) -> Result<Done> {
    let mut done = Done::new(part);
    for place in small_of(part) {
        let Some(small) = before.small.get(Path::new(place)) else { continue };
        // D-Bus's is commonly a link to systemd's, which is settled by itself.
        if *place == places::DBUS_MACHINE_ID && leads_to_machine_id(root) {
            continue;
        }
        match small.restore(&root.join(place))? {
            Became::Same => {}
            Became::Removed => done.removed.push(shown(Path::new(place))),
            Became::Restored => done.restored.push(shown(Path::new(place))),
        }
    }
    for (inner, now) in files_of(root, part)? {
        match before.files.get(&inner) {
            Some(was) => cut(root, &inner, was, &mut done),
            None if now == Was::Folder => {}
            None if part == Part::PolicyRcD && !is_left_over(root, &inner)? => {}
            None => {
                tree::remove(&root.join(&inner))?;
                done.removed.push(shown(&inner));
            }
        }
    }
    for place in trees_of(part) {
        let inner = Path::new(place);
        match before.trees.get(inner) {
            Some(Some(known)) => sweep(root, inner, part, known, &mut done)?,
            Some(None) => done.notes.push(format!(
                "{} is left alone: it is no plain folder of the base, or has more than {} entries",
                shown(inner),
                tree::MOST
            )),
            None => {}
        }
    }
    if part == Part::SshHostKeys && !done.removed.is_empty() && !makes_host_keys(root) {
        done.notes.push(
            "nothing in the image makes new ones, and sshd does not start without: have `ssh-keygen -A` run at first boot"
                .to_owned(),
        );
    }
    Ok(done)
}

fn leads_to_machine_id(root: &Path) -> bool {
    std::fs::read_link(root.join(places::DBUS_MACHINE_ID)).is_ok_and(|target| {
        target.ends_with(places::MACHINE_ID) || target == Path::new("../../../etc/machine-id")
    })
}

/// Whether something in the image makes host keys at boot.
fn makes_host_keys(root: &Path) -> bool {
    let makers = [
        "usr/bin/cloud-init",
        "usr/lib/systemd/system/sshd-keygen.target",
        "usr/lib/systemd/system/sshd-keygen.service",
        "usr/lib/systemd/system/sshd-keygen@.service",
        "lib/systemd/system/sshd-keygen.service",
        "etc/systemd/system/sshd-keygen.service",
    ];
    makers.iter().any(|maker| root.join(maker).exists())
}

/// Whether a policy-rc.d is no package's: a step wrote it and forgot it.
fn is_left_over(root: &Path, inner: &Path) -> Result<bool> {
    // Packages put a link to an alternative there.
    if !std::fs::symlink_metadata(root.join(inner)).is_ok_and(|meta| meta.is_file()) {
        return Ok(false);
    }
    let Ok(lists) = std::fs::read_dir(root.join("var/lib/dpkg/info")) else { return Ok(true) };
    let line = shown(inner);
    for list in lists {
        let path = list.context("reading dpkg's lists")?.path();
        if path.extension().is_some_and(|extension| extension == "list") {
            let list = tree::text(&path)?.unwrap_or_default();
            if list.lines().any(|file| file == line) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Makes a file of the base that only grew as long as it was.
fn cut(root: &Path, inner: &Path, was: &Was, done: &mut Done) {
    let Was::File { length, modified, end: Some(end) } = was else { return };
    let path = root.join(inner);
    let cutting = || -> Result<bool> {
        let meta = std::fs::symlink_metadata(&path)?;
        // What has a second name elsewhere is not a log alone.
        if !meta.is_file() || meta.len() <= *length || meta.nlink() > 1 {
            return Ok(false);
        }
        if tree::end_of(&path, *length)? != *end {
            return Ok(false);
        }
        let file = std::fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path)?;
        file.set_len(*length)?;
        set_modified(&file, *modified)?;
        Ok(true)
    };
    match cutting() {
        Ok(true) => done.restored.push(shown(inner)),
        Ok(false) => {}
        // A log that may only be appended to (chattr +a) is the base's own wish.
        Err(error) => done.notes.push(format!("{} stays as it is: {error:#}", shown(inner))),
    }
}

fn sweep(root: &Path, inner: &Path, part: Part, known: &ByPath<Was>, done: &mut Done) -> Result<()> {
    let Some(now) = tree::list(root, inner, false)? else { return Ok(()) };
    let whole = matches!(part, Part::CloudInit | Part::TemporaryFiles);
    let mut gone: Vec<&PathBuf> = Vec::new();
    for (inner, is) in &now {
        if let Some(was) = known.get(inner) {
            if part == Part::Logs {
                cut(root, inner, was, done);
            }
            continue;
        }
        if gone.last().is_some_and(|above| inner.starts_with(above)) {
            continue;
        }
        let path = root.join(inner);
        match is {
            Was::Folder if !whole => continue,
            // A package's own link or pipe.
            Was::Other if part == Part::Logs => continue,
            Was::File { .. } if part == Part::Logs => match stays(&path, inner)? {
                Stays::No => {}
                Stays::AsItIs => continue,
                Stays::Empty => {
                    let file = std::fs::OpenOptions::new()
                        .write(true)
                        .custom_flags(nix::libc::O_NOFOLLOW)
                        .open(&path);
                    file.and_then(|file| file.set_len(0))
                        .with_context(|| format!("emptying {}", path.display()))?;
                    done.emptied.push(shown(inner));
                    continue;
                }
            },
            _ => {}
        }
        tree::remove(&path)?;
        done.removed.push(shown(inner));
        gone.push(inner);
    }
    // New folders that held nothing else. Of logs, the journal's of one machine alone: the others are packages'.
    let folders = now.iter().rev().filter(|(inner, is)| {
        **is == Was::Folder
            && !known.contains_key(*inner)
            && gone.iter().any(|gone| gone.starts_with(inner))
            && (part != Part::Logs || is_journal_folder(inner))
    });
    for (inner, _) in folders {
        match std::fs::remove_dir(root.join(inner)) {
            Err(error) if !matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => {
                return Err(error).with_context(|| format!("removing {}", shown(inner)));
            }
            _ => {}
        }
    }
    Ok(())
}

enum Stays {
    No,
    AsItIs,
    Empty,
}

/// What happens to a new log. One that is not root's stays, empty: a package's script made it because the
/// daemon cannot make it itself.
fn stays(path: &Path, inner: &Path) -> Result<Stays> {
    let meta = std::fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    let journal = inner.parent().is_some_and(is_journal_folder);
    Ok(if journal || meta.nlink() > 1 {
        Stays::No
    } else if meta.len() == 0 {
        Stays::AsItIs
    } else if meta.uid() != 0 || meta.gid() != 0 {
        Stays::Empty
    } else {
        Stays::No
    })
}

/// `var/log/journal/MACHINE-ID`.
fn is_journal_folder(inner: &Path) -> bool {
    let name = inner.file_name().unwrap_or_default().to_string_lossy();
    inner.parent() == Some(Path::new("var/log/journal"))
        && name.len() == 32
        && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
