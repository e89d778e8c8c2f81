//! The secrets of a bake's steps: read before its first effect, so that a missing one costs nothing.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::Kitchen;
use crate::error::{Failure, Kind};
use crate::plan::Plan;
use crate::provision::Vault;
use crate::provisioner::StepPlan;
use crate::recipe::SecretSource;

/// A secret larger than this (bytes) is none: it is held in memory.
const LARGEST: u64 = 1 << 20;

impl Kitchen<'_> {
    /// Reads every secret that a step or check may need.
    ///
    /// # Errors
    /// [`Kind::Host`] for a variable that isn't set and a file that can't be read; what the cloud says of a parameter.
    pub(super) async fn fetch_secrets(&self, plan: &Plan) -> Result<Vault> {
        let mut vault = Vault::default();
        for (source, step) in sources(plan) {
            let value = match &source {
                SecretSource::Env(name) => {
                    std::env::var_os(name).map(OsStringExt::into_vec).ok_or_else(|| {
                        let hint = format!("export {name} where the bake runs, or name another source");
                        Failure::new(Kind::Host, format!("{name} is not set")).hint(hint).into()
                    })
                }
                SecretSource::File(path) => read(path),
                SecretSource::Parameter(name) => {
                    self.cloud.secret_parameter(name).await.map(String::into_bytes)
                }
            };
            let value = value.with_context(|| format!("reading {source}, a secret of step {step:?}"))?;
            vault.put(source, value);
        }
        self.reporter.mask(&vault.masks());
        Ok(vault)
    }
}

/// Where the secrets are, and for which step first.
fn sources(plan: &Plan) -> Vec<(SecretSource, String)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for step in plan.steps.iter().chain(&plan.checks).filter(|step| step.skipped.is_none()) {
        for source in all(step) {
            if seen.insert(source.clone()) {
                found.push((source.clone(), step.name.clone()));
            }
        }
    }
    found
}

fn all(step: &StepPlan) -> impl Iterator<Item = &SecretSource> {
    let others = step.alternatives.iter().filter_map(|choice| choice.step.as_ref());
    step.secrets.values().chain(others.flat_map(|step| step.secrets.values()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let reading = || {
        Failure::new(Kind::Host, format!("reading {}", path.display()))
            .hint("a secret's file must be there, and readable, when the bake begins")
    };
    let file = std::fs::File::open(path).with_context(reading)?;
    let mut value = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut value).with_context(reading)?;
    if value.len() as u64 > LARGEST {
        bail!(
            Failure::new(Kind::Host, format!("{} is larger than 1 MiB", path.display()))
                .hint("name another file")
        );
    }
    Ok(value)
}
