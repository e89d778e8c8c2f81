//! Looks at what changed for what should not be in an image.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::brought::{self, Brought};
use super::rights::Rights;
use super::walk::{self, Changed};
use super::{Answer, Order, accounts, secrets, shown, tree};
use crate::recipe::{Audit, path_glob};

/// A file larger than this (bytes) holds no key that somebody put there.
const LARGEST: u64 = 1 << 20;

/// Findings beyond this many are counted only.
const MOST: usize = 1000;

/// What programs make for everybody of what everybody has: nothing in it is read.
const GENERATED: [&str; 10] = [
    "etc/alternatives",
    "etc/ssl/certs",
    "etc/selinux",
    "etc/pki/ca-trust/extracted",
    "var/lib/dpkg",
    "var/lib/apt",
    "var/lib/rpm",
    "var/lib/dnf",
    "var/lib/selinux",
    "var/cache",
];

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// A private key.
    PrivateKey,
    /// A file in which a program keeps passwords or tokens, or a token that tells itself by its form.
    Credentials,
    /// Keys that let somebody log in.
    AuthorizedKeys,
    /// An account that can log in, or is root.
    Account,
    /// A set-id program that the base has not, or has otherwise.
    SetId,
    /// A program with file capabilities that the base has not, or has otherwise.
    Capabilities,
    /// Something that everybody may write to.
    WorldWritable,
}

impl Found {
    fn title(self) -> &'static str {
        match self {
            Self::PrivateKey => "private key",
            Self::Credentials => "credentials",
            Self::AuthorizedKeys => "authorized keys",
            Self::Account => "account",
            Self::SetId => "set-id program",
            Self::Capabilities => "file capabilities",
            Self::WorldWritable => "world-writable",
        }
    }
}

/// Something that the audit found. It never holds the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing.
    pub found: Found,
    /// Where in the image, absolute.
    pub path: String,
    /// More of it.
    pub about: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.found.title(), crate::report::harmless(&self.path))?;
        if !self.about.is_empty() {
            write!(f, " ({})", self.about)?;
        }
        Ok(())
    }
}

/// Looks at all that changed; adds the findings and, where they are wanted, the changed paths.
pub(super) fn look(root: &Path, order: &Order, answer: &mut Answer) -> Result<()> {
    let changed = walk::changed(root, order.since, order.until)?;
    if order.spec.audit != Audit::Off {
        answer.findings = findings(root, order, &changed)?;
    }
    if order.changed {
        for_labels(changed, order.since, answer);
    }
    Ok(())
}

/// The paths to be labelled: setfiles goes down into folders, so that a new one stands for all in it, and an
/// old one, in which something else changed, keeps its label.
fn for_labels(changed: Vec<Changed>, since: (i64, i64), answer: &mut Answer) {
    let is_old = |meta: &std::fs::Metadata| {
        let made = meta.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        made.is_some_and(|made| (made.as_secs().cast_signed(), i64::from(made.subsec_nanos())) < since)
    };
    let mut above: Option<PathBuf> = None;
    for (inner, meta) in changed {
        let named = inner.to_str().is_some_and(|text| !text.contains('\n'));
        if above.as_ref().is_some_and(|above| inner.starts_with(above)) {
            answer.unnamed += usize::from(!named);
            continue;
        }
        if meta.is_dir() {
            if is_old(&meta) {
                continue;
            }
            above = named.then(|| inner.clone());
        }
        if named {
            answer.changed.push(inner);
        } else {
            answer.unnamed += 1;
        }
    }
}

fn findings(root: &Path, order: &Order, changed: &[Changed]) -> Result<Vec<Finding>> {
    let brought = Brought::of(root, changed, &order.rpm, order.since)?;
    let mut all = Vec::new();
    for (inner, meta) in changed {
        if let Some(finding) = rights(root, inner, meta, order) {
            all.push(finding);
        }
        if let Some(finding) = world_writable(inner, meta) {
            all.push(finding);
        }
        let is_everybodys = GENERATED.iter().any(|folder| inner.starts_with(folder))
            || (brought::is_packages(inner) && brought.has(inner, meta));
        if meta.is_file() && meta.len() > 0 && !is_everybodys {
            all.extend(in_file(root, inner, meta.len())?);
        }
    }
    all.extend(lost_rights(root, order));
    all.extend(accounts::compare(&order.before.accounts, &accounts::read(root)?));
    let accepted: Vec<_> = order.spec.accept.iter().filter_map(|glob| path_glob(glob).ok()).collect();
    all.retain(|finding| !accepted.iter().any(|glob| glob.is_match(&finding.path)));
    all.sort_by(|one, other| (one.found, &one.path).cmp(&(other.found, &other.path)));
    if all.len() > MOST {
        let about = format!("and {} more of all kinds", all.len() - MOST);
        all.truncate(MOST);
        all.push(Finding { found: Found::WorldWritable, path: "/".to_owned(), about });
    }
    Ok(all)
}

fn rights(root: &Path, inner: &Path, meta: &std::fs::Metadata, order: &Order) -> Option<Finding> {
    let rights = Rights::of(&root.join(inner), meta)?;
    let before = order.before.rights.get(inner);
    if before == Some(&rights) {
        return None;
    }
    let found = if rights.only_capabilities() { Found::Capabilities } else { Found::SetId };
    let about = match before {
        Some(before) => format!("{}; in the base {}", rights.words(), before.words()),
        None => rights.words(),
    };
    Some(Finding { found, path: shown(inner), about })
}

/// Programs of the base that are there still, without the rights that they had.
fn lost_rights(root: &Path, order: &Order) -> Vec<Finding> {
    let lost = |inner: &Path, before: &Rights| {
        let path = root.join(inner);
        let meta = std::fs::symlink_metadata(&path).ok().filter(|meta| meta.is_file())?;
        Rights::of(&path, &meta).is_none().then(|| Finding {
            found: if before.only_capabilities() { Found::Capabilities } else { Found::SetId },
            path: shown(inner),
            about: format!("no more: in the base {}", before.words()),
        })
    };
    order.before.rights.iter().filter_map(|(inner, before)| lost(inner, before)).collect()
}

fn world_writable(inner: &Path, meta: &std::fs::Metadata) -> Option<Finding> {
    let kind = meta.file_type();
    // A folder with the sticky bit is meant for everybody; a link's mode means nothing.
    let sticky = kind.is_dir() && meta.mode() & 0o1000 != 0;
    let writable = meta.mode() & 0o002 != 0 && (kind.is_dir() || kind.is_file()) && !sticky;
    writable.then(|| Finding {
        found: Found::WorldWritable,
        path: shown(inner),
        about: format!("mode {:04o}", meta.mode() & 0o7777),
    })
}

fn in_file(root: &Path, inner: &Path, length: u64) -> Result<Vec<Finding>> {
    let finding = |(found, about)| Finding { found, path: shown(inner), about };
    let mut content = Vec::new();
    if length <= LARGEST {
        let path = root.join(inner);
        let what = || format!("reading {}", path.display());
        tree::open(&path).with_context(what)?.take(LARGEST).read_to_end(&mut content).with_context(what)?;
    }
    Ok(secrets::look(inner, &content).into_iter().map(finding).collect())
}
