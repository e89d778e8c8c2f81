//! The sources of a recipe that are not on the builder: objects of S3, pinned when the plan is made, and URLs, which
//! their checksums pin. The builder fetches them before the bake begins, so that nothing is made for one that is not
//! what the recipe says. Objects with the builder's own credentials, on every cloud.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::Context;
use crate::cloud::ec2::Ec2;
use crate::error::{Failure, Kind};
use crate::provision::{fetch_url, is_kept};
use crate::provisioner::{Settled, StepPlan};

/// Pins every object to its version, or to its ETag: plan and digest say which.
///
/// # Errors
/// [`Kind::Recipe`] where there is no such object; what keeps S3 from answering.
pub async fn pin(context: &Context, settled: &mut Settled) -> Result<()> {
    let steps = || settled.steps.iter().chain(&settled.checks);
    if steps().flat_map(StepPlan::all_staged).all(|staged| staged.object.is_none()) {
        return Ok(());
    }
    let s3 = connect(context).await?;
    let downloads = context.settings.cache.join("downloads");
    for step in settled.steps.iter_mut().chain(&mut settled.checks) {
        for staged in step.all_staged_mut() {
            let Some(object) = &staged.object else { continue };
            let pinned = s3.pin_object(object).await?;
            if staged.sha256.is_none() {
                let name = staged.from.file_name().unwrap_or_default().to_owned();
                staged.from = downloads.join(pinned.place()).join(name);
            }
            staged.object = Some(pinned);
        }
    }
    Ok(())
}

/// Fetches what is not there yet.
///
/// # Errors
/// As [`pin`]; [`Kind::Step`] where a source is not what its checksum says, or a URL is not answered.
pub async fn fetch(context: &Context, steps: impl Iterator<Item = &StepPlan>) -> Result<()> {
    let mut s3 = None;
    for staged in steps.filter(|step| step.skipped.is_none()).flat_map(StepPlan::all_staged) {
        let is_there = || is_kept(&staged.from, staged.sha256.as_deref());
        if (staged.object.is_none() && staged.url.is_none()) || is_there()? {
            continue;
        }
        if let Some(url) = &staged.url {
            context.reporter.phase("fetch", url);
            let (staged, stop) = (staged.clone(), context.stop.clone());
            let fetched = tokio::task::spawn_blocking(move || fetch_url(&staged, &stop)).await;
            fetched.context("fetching a URL")??;
            continue;
        }
        let Some(object) = &staged.object else { continue };
        let client = match s3.take() {
            Some(client) => client,
            None => connect(context).await?,
        };
        context.reporter.phase("fetch", &object.to_string());
        client.fetch_object(object, &staged.from, &context.stop).await?;
        if !is_there()? {
            let found = digest_of(&staged.from)?;
            std::fs::remove_file(&staged.from)
                .with_context(|| format!("removing {}", staged.from.display()))?;
            let message = format!(
                "{object} is not what the recipe says: its SHA-256 is {found}, {} was expected",
                staged.sha256.as_deref().unwrap_or_default()
            );
            return Err(Failure::new(Kind::Step, message)
                .hint("find out which is right: the object was replaced, or the checksum is mistyped")
                .into());
        }
        s3 = Some(client);
    }
    Ok(())
}

fn digest_of(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    std::io::copy(&mut file, &mut hash).with_context(|| format!("reading {}", path.display()))?;
    Ok(format!("{:x}", hash.finalize()))
}

async fn connect(context: &Context) -> Result<Ec2> {
    let settings = context.settings.aws.lay_over(context.settings.deadlines.ec2());
    Ec2::connect(settings).await.context("connecting to S3, for the objects that the recipe names")
}
