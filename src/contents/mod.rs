//! What is in a root: package inventory, hygiene, manifest, difference from the base. Does not know how it got there.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

mod difference;
mod dpkg;
pub mod hygiene;
mod manifest;
mod rpm;

pub use difference::{Change, Difference};
pub use manifest::Manifest;

use crate::error::{Failure, Kind};
use crate::sandbox::{Network, Outcome, Program, Run, Sandbox, Stream};
use crate::stop::Stop;

/// An image that holds the bake up longer than this is at fault.
const LONGEST: Duration = Duration::from_secs(300);

/// More than this (bytes) no program of the image has to say: the builder holds it in memory. Half a million labels
/// are as much.
const MOST_SAID: usize = 64 << 20;

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
/// That a database is there and cannot be read, that the root's `rpm` took minutes or said more than there can be
/// ([`Kind::Step`]), or that stopping was asked for.
pub async fn inventory(sandbox: &Sandbox, stop: &Stop) -> Result<Inventory> {
    inventory_within(sandbox, LONGEST, stop).await
}

/// The same, the root's `rpm` having this long.
///
/// # Errors
/// As there.
pub async fn inventory_within(sandbox: &Sandbox, longest: Duration, stop: &Stop) -> Result<Inventory> {
    let mut packages = dpkg_packages(&sandbox.root)?;
    if has_rpm(&sandbox.root)? {
        let mut run = Run::new(Program::Argv(rpm::QUERY.iter().map(ToString::to_string).collect()));
        run.network = Network::None;
        run.suppress_sync = true;
        run.timeout = Some(longest);
        let listed = heard(sandbox, &run, &rpm::QUERY.join(" "), stop).await;
        packages.extend(rpm::parse(&listed.context("listing the root's rpm packages")?));
    }
    Ok(Inventory::sorted(packages))
}

/// Whether a root has packages of rpm's.
fn has_rpm(root: &Path) -> Result<bool> {
    Ok(!rpm_databases(root)?.is_empty())
}

fn rpm_databases(root: &Path) -> Result<Vec<File>> {
    RPM_DATABASES.iter().filter_map(|path| crate::beneath::open(root, Path::new(path)).transpose()).collect()
}

/// The files of the root's rpm packages, a line each, where its database changed at this time (seconds and nanoseconds
/// since 1970) or later. Nothing where the root's `rpm` cannot tell.
///
/// # Errors
/// That the database cannot be looked at, or that stopping was asked for.
async fn rpm_files_since(sandbox: &Sandbox, since: (i64, i64), stop: &Stop) -> Result<String> {
    let mut has_changed = false;
    for database in rpm_databases(&sandbox.root)? {
        let meta = database.metadata().context("looking at rpm's database")?;
        has_changed |= (meta.ctime(), meta.ctime_nsec()) >= since;
    }
    if !has_changed {
        return Ok(String::new());
    }
    let mut run = Run::new(Program::Argv(rpm::FILES.iter().map(ToString::to_string).collect()));
    run.network = Network::None;
    run.suppress_sync = true;
    run.timeout = Some(LONGEST);
    match heard(sandbox, &run, &rpm::FILES.join(" "), stop).await {
        Ok(files) => Ok(files),
        Err(error) => {
            stop.check()?;
            tracing::warn!("the audit takes what rpm installed for what steps put there: {error:#}");
            Ok(String::new())
        }
    }
}

/// The root's dpkg packages.
fn dpkg_packages(root: &Path) -> Result<Vec<Package>> {
    let status = crate::beneath::read_to_string(root, Path::new("var/lib/dpkg/status"))?;
    Ok(status.as_deref().map(dpkg::parse_status).unwrap_or_default())
}

/// Runs something of the image's; its standard output.
///
/// # Errors
/// That it failed; [`Kind::Step`]: that its time was up, or that it said more than [`MOST_SAID`]; or that stopping was
/// asked for.
async fn heard(sandbox: &Sandbox, run: &Run, name: &str, stop: &Stop) -> Result<String> {
    stop.check()?;
    let (mut out, mut complaints) = (String::new(), String::new());
    let enough = Stop::default();
    let mut line = |stream: Stream, text: &str| {
        if out.len() + complaints.len() > MOST_SAID {
            if enough.signal().is_none() {
                enough.raise(libc::SIGTERM);
            }
            return;
        }
        let buffer = if stream == Stream::Out { &mut out } else { &mut complaints };
        buffer.push_str(text);
        buffer.push('\n');
    };
    let ended = {
        let running = sandbox.run(run, &enough, &mut line);
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => ended,
            asked = stop.requested() => {
                enough.raise(asked.0);
                running.await
            }
        }
    };
    stop.check()?;
    let at_fault = |what: String| {
        Failure::new(Kind::Step, format!("{name} {what}"))
            .hint("see what the image's own program does: `bakehouse bake --shell` has a shell in the root")
    };
    if enough.signal().is_some() {
        bail!(at_fault(format!("said more than {} MiB and was ended", MOST_SAID >> 20)));
    }
    match ended? {
        Outcome::Exited(0) => Ok(out),
        Outcome::TimedOut => {
            let seconds = run.timeout.unwrap_or_default().as_secs_f64();
            bail!(at_fault(format!("was not done after {seconds} s and was ended")))
        }
        outcome => bail!("{name} ended with {outcome:?}: {}", complaints.trim_end()),
    }
}
