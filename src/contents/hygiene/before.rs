//! What the base has, noted before the first step.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::accounts::{self, Accounts};
use super::rights::{self, Rights};
use super::small::Small;
use super::tree::{self, Was};
use super::{ByPath, places};
use crate::recipe::{Audit, HygieneSpec, Part};

/// What there was at the places that matter.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Before {
    /// Files that are put back as they were.
    pub(super) small: ByPath<Small>,
    /// Trees whose new entries go, and what was in each; none for those that are left alone.
    pub(super) trees: ByPath<Option<ByPath<Was>>>,
    /// Single files that go when they are new.
    pub(super) files: ByPath<Was>,
    /// Set-id programs and programs with capabilities.
    pub(super) rights: ByPath<Rights>,
    /// Accounts, by name.
    pub(super) accounts: Accounts,
}

/// The builtin: notes what there is and answers with it as one line of JSON.
pub(super) fn run(argument: serde_json::Value) -> Result<()> {
    let spec: HygieneSpec = serde_json::from_value(argument).context("reading what is covered")?;
    let before = note(Path::new("/"), &spec)?;
    println!("{}", serde_json::to_string(&before).context("writing the answer")?);
    Ok(())
}

/// The trees of a part.
pub(super) fn trees_of(part: Part) -> &'static [&'static str] {
    match part {
        Part::CloudInit => &places::CLOUD_INIT_TREES,
        Part::PackageCaches => &places::PACKAGE_CACHES,
        Part::Logs => &[places::LOGS],
        Part::TemporaryFiles => &[places::TEMPORARY],
        _ => &[],
    }
}

/// The small files of a part.
pub(super) fn small_of(part: Part) -> &'static [&'static str] {
    match part {
        Part::MachineId => &[places::MACHINE_ID, places::DBUS_MACHINE_ID],
        Part::RandomSeeds => &places::RANDOM_SEEDS,
        _ => &[],
    }
}

/// The single files of a part that there are now.
pub(super) fn files_of(root: &Path, part: Part) -> Result<ByPath<Was>> {
    let paths: Vec<PathBuf> = match part {
        Part::SshHostKeys => ssh_host_keys(root)?,
        Part::CloudInit => vec![places::CLOUD_INIT_LINK.into()],
        Part::Histories => histories(root)?,
        Part::PolicyRcD => vec![places::POLICY_RC_D.into()],
        _ => Vec::new(),
    };
    let mut found = ByPath::new();
    for inner in paths {
        if let Some(was) = was(root, &inner)? {
            found.insert(inner, was);
        }
    }
    Ok(found)
}

fn was(root: &Path, inner: &Path) -> Result<Option<Was>> {
    use std::os::unix::fs::MetadataExt as _;
    let path = root.join(inner);
    let Ok(meta) = std::fs::symlink_metadata(&path) else { return Ok(None) };
    Ok(Some(if meta.is_dir() {
        Was::Folder
    } else if meta.is_file() {
        let end = Some(tree::end_of(&path, meta.len())?);
        Was::File { length: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()), end }
    } else {
        Was::Other
    }))
}

fn ssh_host_keys(root: &Path) -> Result<Vec<PathBuf>> {
    let keys = names(root, Path::new(places::SSH_FOLDER))?.into_iter().filter(|inner| {
        let name = inner.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(places::SSH_HOST_KEY) && name.contains("_key")
    });
    Ok(keys.collect())
}

fn histories(root: &Path) -> Result<Vec<PathBuf>> {
    let mut homes = names(root, Path::new(places::HOMES))?;
    homes.push(places::ROOT_HOME.into());
    Ok(homes.iter().flat_map(|home| places::HISTORIES.map(|name| home.join(name))).collect())
}

/// What is in a folder, by its path beneath the root; nothing where there is no such folder.
fn names(root: &Path, inner: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(root.join(inner)) else { return Ok(Vec::new()) };
    entries
        .map(|entry| Ok(inner.join(entry?.file_name())))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("reading /{}", inner.display()))
}

/// Notes what there is beneath `root`.
pub(super) fn note(root: &Path, spec: &HygieneSpec) -> Result<Before> {
    let mut before = Before::default();
    for part in &spec.parts {
        for place in small_of(*part) {
            before.small.insert((*place).into(), Small::at(&root.join(place))?);
        }
        for place in trees_of(*part) {
            let inner = Path::new(place);
            // A tree that is not there yet has nothing in it; one behind a link is left alone.
            let missing = std::fs::symlink_metadata(root.join(inner)).is_err();
            let listed = tree::list(root, inner, *part == Part::Logs)?;
            before.trees.insert(inner.to_owned(), if missing { Some(ByPath::new()) } else { listed });
        }
        before.files.append(&mut files_of(root, *part)?);
    }
    if spec.audit != Audit::Off {
        before.rights = rights::programs(root)?;
        before.accounts = accounts::read(root)?;
    }
    Ok(before)
}
