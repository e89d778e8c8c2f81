//! `[hygiene]`: what is taken out of an image before its root is closed, and what is looked for in it.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::Complaint;
use super::reader::{Complaints, Table, shown, strings};

/// A part of hygiene, each with a key of its own in `[hygiene]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// `ssh_host_keys`.
    SshHostKeys,
    /// `machine_id`.
    MachineId,
    /// `random_seeds`.
    RandomSeeds,
    /// `cloud_init`.
    CloudInit,
    /// `package_caches`.
    PackageCaches,
    /// `logs`.
    Logs,
    /// `histories`.
    Histories,
    /// `temporary_files`.
    TemporaryFiles,
    /// `policy_rc_d`.
    PolicyRcD,
    /// `selinux_labels`.
    SelinuxLabels,
}

impl Part {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 10] = [
        Self::SshHostKeys,
        Self::MachineId,
        Self::RandomSeeds,
        Self::CloudInit,
        Self::PackageCaches,
        Self::Logs,
        Self::Histories,
        Self::TemporaryFiles,
        Self::PolicyRcD,
        Self::SelinuxLabels,
    ];

    /// Its key in `[hygiene]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::SshHostKeys => "ssh_host_keys",
            Self::MachineId => "machine_id",
            Self::RandomSeeds => "random_seeds",
            Self::CloudInit => "cloud_init",
            Self::PackageCaches => "package_caches",
            Self::Logs => "logs",
            Self::Histories => "histories",
            Self::TemporaryFiles => "temporary_files",
            Self::PolicyRcD => "policy_rc_d",
            Self::SelinuxLabels => "selinux_labels",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::SshHostKeys => "ssh host keys",
            Self::MachineId => "machine id",
            Self::RandomSeeds => "random seeds",
            Self::CloudInit => "cloud-init state",
            Self::PackageCaches => "package lists and caches",
            Self::Logs => "logs",
            Self::Histories => "shell histories",
            Self::TemporaryFiles => "temporary files",
            Self::PolicyRcD => "policy-rc.d",
            Self::SelinuxLabels => "SELinux labels",
        }
    }
}

/// What happens to what the audit finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audit {
    /// Nothing is looked for.
    Off,
    /// Each finding is a warning.
    #[default]
    Warn,
    /// Findings fail the bake.
    Deny,
}

/// `[hygiene]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HygieneSpec {
    /// The parts that are done; all where nothing is said.
    pub parts: BTreeSet<Part>,
    /// What happens to what the audit finds.
    pub audit: Audit,
    /// Globs of paths that the audit passes over: `*` and `?` within a name, `**` across folders.
    pub accept: Vec<String>,
}

impl Default for HygieneSpec {
    fn default() -> Self {
        Self { parts: Part::ALL.into(), audit: Audit::default(), accept: Vec::new() }
    }
}

/// The matcher of a glob of [`HygieneSpec::accept`].
///
/// # Errors
/// What is wrong with it.
pub fn path_glob(glob: &str) -> Result<GlobMatcher, String> {
    if !glob.starts_with('/') && !glob.starts_with("**") {
        return Err("must begin with / or **".to_owned());
    }
    let glob = GlobBuilder::new(glob).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.kind().to_string())
}

/// Reads `[hygiene]`.
pub(super) fn hygiene(mut table: Table, complaints: &mut Complaints) -> HygieneSpec {
    // What each part is that says nothing itself.
    let enabled = table.bool("enabled", complaints).unwrap_or(true);
    let mut parts = BTreeSet::new();
    for part in Part::ALL {
        if table.bool(part.key(), complaints).unwrap_or(enabled) {
            parts.insert(part);
        }
    }
    let audit =
        table.string("audit", complaints).map_or(Audit::default(), |word| match word.value.as_str() {
            "warn" => Audit::Warn,
            "deny" => Audit::Deny,
            "off" => Audit::Off,
            other => {
                complaints.push(
                    Complaint::new(format!("unknown `audit` `{}`", shown(other)), word.span.clone())
                        .help("`warn` (the default), `deny` (what it finds fails the bake) or `off`"),
                );
                Audit::default()
            }
        });
    let given = table.get("accept").and_then(|value| strings("`accept`", value, complaints));
    let mut accept = Vec::new();
    for glob in given.unwrap_or_default() {
        if let Err(why) = path_glob(&glob.value) {
            let message = format!("`{}` can't be a glob of paths: {why}", shown(&glob.value));
            complaints.push(
                Complaint::new(message, glob.span.clone())
                    .help("an absolute path of the image, with `*`, `?` and `**`: /srv/app/tests/*.pem"),
            );
        }
        accept.push(glob.value);
    }
    table.finish(complaints);
    HygieneSpec { parts, audit, accept }
}
