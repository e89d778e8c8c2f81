//! What is in a root: package inventory, hygiene, manifest, difference from the base. Does not know how it got there.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

mod difference;
mod dpkg;
pub mod hygiene;
mod manifest;
mod rpm;

pub use difference::{Change, Difference};
pub use manifest::Manifest;

use crate::sandbox::{Network, Outcome, Program, Run, Sandbox, Stream};
use crate::stop::Stop;

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The architecture that it was built for, by the package manager's word (`amd64`, `noarch`).
    pub arch: String,
    /// The whole version: for dpkg `[epoch:]upstream[-revision]`, for rpm `[epoch:]version-release`.
    pub version: String,
}

/// All installed packages, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Inventory(pub Vec<Package>);

impl Inventory {
    fn sorted(mut packages: Vec<Package>) -> Self {
        packages.sort();
        packages.dedup();
        Self(packages)
    }
}

/// Where rpm keeps its database: Fedora's since 36, the others', by age, and Debian's own rpm's.
const RPM_DATABASES: [&str; 6] = [
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "root/.rpmdb/rpmdb.sqlite",
    "root/.rpmdb/Packages",
];

/// The packages installed in the sandbox's root: dpkg's by reading its status file, rpm's by asking the root's
/// own `rpm`. A root may have both, or neither.
///
/// # Errors
/// That a database is there and cannot be read, or that stopping was asked for.
pub async fn inventory(sandbox: &Sandbox, stop: &Stop) -> Result<Inventory> {
    let mut packages = dpkg_packages(&sandbox.root)?;
    let mut has_rpm = false;
    for path in RPM_DATABASES {
        has_rpm |= crate::beneath::open(&sandbox.root, Path::new(path))?.is_some();
    }
    if has_rpm {
        packages.extend(ask_rpm(sandbox, stop).await.context("listing the root's rpm packages")?);
    }
    Ok(Inventory::sorted(packages))
}

/// The root's dpkg packages.
fn dpkg_packages(root: &Path) -> Result<Vec<Package>> {
    let status = crate::beneath::read_to_string(root, Path::new("var/lib/dpkg/status"))?;
    Ok(status.as_deref().map(dpkg::parse_status).unwrap_or_default())
}

async fn ask_rpm(sandbox: &Sandbox, stop: &Stop) -> Result<Vec<Package>> {
    let mut run = Run::new(Program::Argv(rpm::QUERY.iter().map(ToString::to_string).collect()));
    run.network = Network::None;
    run.suppress_sync = true;
    let (mut out, mut complaints) = (String::new(), String::new());
    let mut line = |stream: Stream, text: &str| {
        let buffer = if stream == Stream::Out { &mut out } else { &mut complaints };
        buffer.push_str(text);
        buffer.push('\n');
    };
    match sandbox.run(&run, stop, &mut line).await? {
        Outcome::Exited(0) => Ok(rpm::parse(&out)),
        outcome => bail!("{} ended with {outcome:?}: {}", rpm::QUERY.join(" "), complaints.trim_end()),
    }
}
