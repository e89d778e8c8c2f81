//! What dead bakes left, found and released: by their journals, and by their tags.
//!
//! A bake whose image was registered before it died is finished (image and snapshot stay, the rest goes);
//! any other is undone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cloud::{Cloud, Orphan};
use crate::error::Interrupted;
use crate::journal::{self, Entry, Journal, Record, Thing};
use crate::report::Reporter;
use crate::stop::Stop;

mod finished;
mod logs;

use finished::{Finished, finish, finished_image};
pub use logs::logs;

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
    /// Somebody kept it, for a look or to go on with; until then it stays.
    KeptUntil(String),
    /// It could not be released.
    Failed(String),
}

/// What a sweep releases.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Whether it does; without it looks.
    pub act: bool,
    /// How long what was kept on purpose stays.
    pub kept_for: Duration,
}

/// The sweep of the journals in a state folder, by the clouds that are at hand. `work` is where bakes have their mount
/// points. Once stopping is asked for, nothing more is released: a later sweep does it.
pub async fn journals(
    state: &Path,
    work: &Path,
    clouds: &[&dyn Cloud],
    Scope { act, kept_for }: Scope,
    reporter: &Reporter,
    stop: &Stop,
) -> Result<Vec<Finding>> {
    let now = jiff::Timestamp::now();
    let mut findings = Vec::new();
    for path in Journal::all(state)? {
        if stop.signal().is_some() {
            break;
        }
        let found = match act {
            true => {
                Journal::take_up(&path).map(|found| found.map(|(journal, record)| (Some(journal), record)))
            }
            false => Journal::look_at(&path).map(|found| found.map(|record| (None, record))),
        };
        match found {
            Ok(None) => reporter.detail(&format!("{}: its bake is live", path.display())),
            Ok(Some((journal, record))) => {
                if let Some(until) = crate::bake::kept_until(&record, kept_for, now) {
                    findings.extend(left_alone(&record, until, reporter));
                    continue;
                }
                let own = clouds.iter().find(|cloud| cloud.name() == record.cloud);
                // What owes nothing is as good as gone, whichever cloud it is of.
                let Some(cloud) = own.or(clouds.first().filter(|_| !owes_something(&record))) else {
                    let why = "it is of the cloud {}: run gc with --cloud {} where that answers";
                    findings.push(failed(&record, &anyhow::anyhow!(why.replace("{}", &record.cloud))));
                    continue;
                };
                // One bake whose things cannot even be asked for must not keep the others from being swept.
                match one(journal, &record, work, *cloud, stop).await {
                    Ok((found, image)) => {
                        findings.extend(found);
                        let Some(image) = image else { continue };
                        if let Some(again) = record.notes.get(crate::bake::PUBLISH) {
                            reporter.note(&format!(
                                "{image} is good, and perhaps not wholly published: `bakehouse publish {image} {again}` makes sure"
                            ));
                        }
                        if let Some(left) = crate::bake::hooks_left(&record) {
                            let what_to_do = match act || left.was_cut {
                                true => "run it by hand".to_owned(),
                                false => {
                                    format!(
                                        "`bakehouse bake --resume {}` runs it, and gc does not",
                                        record.bake
                                    )
                                }
                            };
                            reporter.warn(&format!("{image} is good, but {}: {what_to_do}", left.told));
                        }
                    }
                    Err(error) if error.is::<Interrupted>() => {}
                    Err(error) => findings.push(failed(&record, &error)),
                }
            }
            Err(error) => findings.push(Finding {
                bake: Journal::bake_of(&path).0,
                what: "all that its journal owns".to_owned(),
                id: None,
                verdict: Verdict::Failed(format!(
                    "{error:#}; the bakehouse that wrote it may be a newer one, which can: use that, or remove the file \
                     once `gc --all` finds nothing of its bake"
                )),
            }),
        }
    }
    Ok(findings)
}

/// What somebody kept, and how to go on with it or to release it sooner.
fn left_alone(record: &Record, until: jiff::Timestamp, reporter: &Reporter) -> Vec<Finding> {
    let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let bake = record.bake.to_string();
    let hooks = crate::bake::hooks_left(record);
    let goes_on = match hooks {
        Some(_) => format!("`bakehouse bake --resume {bake}` goes on with it, "),
        None => String::new(),
    };
    reporter.note(&format!(
        "{bake} is kept until {until}: {goes_on}`bakehouse gc --kept-older-than 0s --yes` releases it now"
    ));
    let things = record.owned().into_iter().map(|entry| (entry.thing.to_string(), entry.made));
    let hooks = hooks.map(|left| (left.told, None));
    things
        .chain(hooks)
        .map(|(what, id)| Finding {
            bake: bake.clone(),
            what,
            id,
            verdict: Verdict::KeptUntil(until.clone()),
        })
        .collect()
}

/// Whether a journal tells of anything that is to be released, or of hooks of which somebody is to be told.
fn owes_something(record: &Record) -> bool {
    !record.owned().is_empty() || crate::bake::hooks_left(record).is_some()
}

/// The sweep by tags, for what no journal tells of: this builder's, or any's that is older than `older`.
/// What a journal on this host owns, of a live bake or a dead one, is left to it. Once stopping is asked for, nothing
/// more is released.
pub async fn tags(
    state: &Path,
    cloud: &dyn Cloud,
    any_builder: bool,
    older: Duration,
    act: bool,
    stop: &Stop,
) -> Result<Vec<Finding>> {
    let mut orphans = stop.race(cloud.orphans(any_builder)).await?;
    // The journals after the orphans: what a live bake made before is in its journal by now. And the orphans
    // once more after the journals: what a bake owned that ended meanwhile is an image's by now.
    let known = known(state)?;
    if !orphans.is_empty() {
        let still = stop.race(cloud.orphans(any_builder)).await?;
        orphans.retain(|orphan| still.iter().any(|other| other.id == orphan.id));
    }
    let now = jiff::Timestamp::now();
    let mut findings = Vec::new();
    for orphan in orphans {
        let age = orphan.created.parse::<jiff::Timestamp>().map(|created| now.duration_since(created));
        // One whose age cannot be told is left alone: it may be a minute old.
        let old_enough = age.is_ok_and(|age| age.unsigned_abs() >= older && !age.is_negative());
        if known.owns(&orphan) || !old_enough {
            continue;
        }
        let verdict = match act {
            false => Verdict::Release,
            true if stop.signal().is_some() => break,
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

/// What the journals of this host speak of.
struct Known {
    bakes: Vec<String>,
    files: Vec<PathBuf>,
}

impl Known {
    fn owns(&self, orphan: &Orphan) -> bool {
        let is_named = matches!(&orphan.thing, Thing::StoreFile { path } if self.files.contains(path));
        is_named || self.bakes.contains(&orphan.bake.0)
    }
}

fn known(state: &Path) -> Result<Known> {
    let mut known = Known { bakes: Vec::new(), files: Vec::new() };
    for path in Journal::all(state)? {
        let text = match std::fs::read_to_string(&path) {
            // Its bake ended between the listing and now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.with_context(|| format!("reading the journal {}", path.display()))?,
        };
        let Ok(record) = journal::read(&text) else {
            // One that is not even begun owns nothing. What the bake of one that cannot be read left is found like all
            // that has no journal; while it lives, all that bears its name is its own.
            if Journal::is_live(&path)? {
                known.bakes.push(Journal::bake_of(&path).0);
                known.files.extend(journal::files_named(&text));
            }
            continue;
        };
        known.bakes.push(record.bake.0);
        known.files.extend(record.entries.into_iter().filter_map(|entry| match entry.thing {
            Thing::StoreFile { path } => Some(path),
            _ => None,
        }));
    }
    Ok(known)
}

/// The sweep of one dead bake: with its journal taken up it acts, without it looks. And the image that it had
/// finished, if it had.
async fn one(
    journal: Option<Journal>,
    record: &Record,
    work: &Path,
    cloud: &dyn Cloud,
    stop: &Stop,
) -> Result<(Vec<Finding>, Option<String>)> {
    let mut finished = stop.race(finished_image(record, cloud)).await?;
    let is_to_be_finished = match &finished {
        Some(finished) => finished.is_unfinished(record),
        None => record.is_half_replaced(),
    };
    finished = match (is_to_be_finished, &journal) {
        (true, Some(journal)) => finish(record, journal, cloud, stop).await?,
        // It will be finished: what its journal has of an image and its snapshot stays.
        (true, None) => finished.or_else(|| Some(Finished::foreseen(record, String::new()))),
        (false, _) => finished,
    };
    let mut findings = Vec::new();
    for entry in record.owned() {
        let is_copy = matches!(entry.thing, Thing::Copy { .. });
        let stays = is_copy || finished.as_ref().is_some_and(|finished| finished.keeps(&entry));
        let verdict = match (stays, &journal) {
            (true, None) => Verdict::Keep,
            (true, Some(journal)) => {
                journal.kept(entry.number)?;
                Verdict::Keep
            }
            (false, None) => Verdict::Release,
            (false, Some(_)) if stop.signal().is_some() => break,
            (false, Some(journal)) => release(journal, &entry, cloud).await?,
        };
        let image = finished.as_ref().filter(|finished| finished.entry == entry.number);
        findings.push(Finding {
            bake: record.bake.to_string(),
            what: entry.thing.to_string(),
            id: entry
                .made
                .clone()
                .or_else(|| image.map(|image| image.id.clone()).filter(|id| !id.is_empty())),
            verdict,
        });
    }
    // What finishing the bake noted anew is what it noted before, and told of above.
    if let Some(journal) = &journal {
        for entry in journal.owned().into_iter().filter(|entry| !record.has(entry.number)) {
            if stop.signal().is_some() {
                break;
            }
            let verdict = release(journal, &entry, cloud).await?;
            if matches!(verdict, Verdict::Failed(_)) {
                let (bake, what) = (record.bake.to_string(), entry.thing.to_string());
                findings.push(Finding { bake, what, id: entry.made, verdict });
            }
        }
    }
    if let Some(journal) = journal
        && journal.owned().is_empty()
    {
        crate::bake::forget_work(&work.join(&record.bake.0))?;
        journal.end()?;
    }
    Ok((findings, finished.map(|finished| finished.id).filter(|id| !id.is_empty())))
}

fn failed(record: &Record, error: &anyhow::Error) -> Finding {
    Finding {
        bake: record.bake.to_string(),
        what: "all that its journal owns".to_owned(),
        id: None,
        verdict: Verdict::Failed(format!("{error:#}")),
    }
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
