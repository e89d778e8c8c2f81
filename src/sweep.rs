//! What dead bakes left, found and released: by their journals, and by their tags.
//!
//! A bake whose image was registered before it died is finished (image and snapshot stay, the rest goes);
//! any other is undone.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::cloud::Cloud;
use crate::journal::{Entry, Journal, Record, Standing, Thing};
use crate::report::Reporter;

/// What is to be done with one thing of a dead bake, or was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The bake.
    pub bake: String,
    /// The thing, in words.
    pub what: String,
    /// Its id, where it is known.
    pub id: Option<String>,
    /// What is to be done, or was.
    pub verdict: Verdict,
}

/// What becomes of a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is to be released (nothing was touched yet).
    Release,
    /// It belongs to a finished image and stays.
    Keep,
    /// It was released.
    Released,
    /// It could not be released.
    Failed(String),
}

/// The sweep of the journals in a state folder.
pub async fn journals(
    state: &Path,
    cloud: &dyn Cloud,
    act: bool,
    reporter: &Reporter,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in Journal::all(state)? {
        match Journal::take_up(&path) {
            Ok(None) => reporter.detail(&format!("{}: its bake is live", path.display())),
            Ok(Some((_, record))) if record.cloud != cloud.name() => {
                reporter.note(&format!(
                    "{} is of the cloud {}: run gc with --cloud {}",
                    record.bake, record.cloud, record.cloud
                ));
            }
            Ok(Some((journal, record))) => findings.extend(one(journal, &record, cloud, act).await?),
            // One journal that cannot be read must not keep the others from being swept.
            Err(error) => reporter
                .warn(&format!("{error:#}; remove the file once `gc --all` finds nothing of its bake")),
        }
    }
    Ok(findings)
}

/// The sweep by tags, for what no journal tells of: this builder's, or any's that is older than `older`.
/// What a journal on this host owns, of a live bake or a dead one, is left to it.
pub async fn tags(
    state: &Path,
    cloud: &dyn Cloud,
    any_builder: bool,
    older: Duration,
    act: bool,
) -> Result<Vec<Finding>> {
    let known: Vec<_> = Journal::all(state)?
        .iter()
        .filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .collect();
    let now = jiff::Timestamp::now();
    let mut findings = Vec::new();
    for orphan in cloud.orphans(any_builder).await? {
        let age = orphan.created.parse::<jiff::Timestamp>().map(|created| now.duration_since(created));
        // One whose age cannot be told is left alone: it may be a minute old.
        let old_enough = age.is_ok_and(|age| age.unsigned_abs() >= older && !age.is_negative());
        if known.contains(&orphan.bake.0) || !old_enough {
            continue;
        }
        let verdict = match act {
            false => Verdict::Release,
            true => match cloud.undo(&orphan.thing, Some(&orphan.id)).await {
                Ok(()) => Verdict::Released,
                Err(error) => Verdict::Failed(format!("{error:#}")),
            },
        };
        let (bake, what) = (orphan.bake.0, orphan.thing.to_string());
        findings.push(Finding { bake, what, id: Some(orphan.id), verdict });
    }
    Ok(findings)
}

async fn one(journal: Journal, record: &Record, cloud: &dyn Cloud, act: bool) -> Result<Vec<Finding>> {
    let finished = finished_image(record, cloud).await?;
    let mut findings = Vec::new();
    for entry in journal.owned() {
        let keep = finished.is_some() && matches!(entry.thing, Thing::Image { .. } | Thing::Snapshot { .. });
        let verdict = match (keep, act) {
            (true, false) => Verdict::Keep,
            (true, true) => {
                journal.kept(entry.number)?;
                Verdict::Keep
            }
            (false, false) => Verdict::Release,
            (false, true) => release(&journal, &entry, cloud).await?,
        };
        findings.push(Finding {
            bake: record.bake.to_string(),
            what: entry.thing.to_string(),
            id: entry
                .made
                .clone()
                .or_else(|| finished.clone().filter(|_| matches!(entry.thing, Thing::Image { .. }))),
            verdict,
        });
    }
    if act && journal.owned().is_empty() {
        journal.end()?;
    }
    Ok(findings)
}

async fn release(journal: &Journal, entry: &Entry, cloud: &dyn Cloud) -> Result<Verdict> {
    match cloud.undo(&entry.thing, entry.made.as_deref()).await {
        Ok(()) => {
            journal.gone(entry.number)?;
            Ok(Verdict::Released)
        }
        Err(error) => Ok(Verdict::Failed(format!("{error:#}"))),
    }
}

/// The id of the image that the bake registered before it died, if it did. An image whose registration was
/// announced alone counts when the cloud has it.
async fn finished_image(record: &Record, cloud: &dyn Cloud) -> Result<Option<String>> {
    let image = record.entries.iter().find_map(|entry| match (&entry.thing, entry.standing) {
        (_, Standing::Gone) => None,
        (Thing::Image { name, bake, .. }, _) => Some((name, bake, &entry.made)),
        _ => None,
    });
    match image {
        None => Ok(None),
        Some((name, bake, _)) => cloud.image_of_bake(name, bake).await,
    }
}
