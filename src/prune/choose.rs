//! Which batches go, and why the others stay. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Finding, Inventory, Verdict, Wanted, as_use};
use crate::cloud::shelf::{Action, Stock};
use crate::plan::end_protection;

/// What one bake made: an image and its copies.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The images; the one that the others were copied from is the last.
    pub images: Vec<Stock>,
    /// Its family.
    pub family: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub why: Vec<String>,
}

impl Batch {
    fn original(&self) -> Option<&Stock> {
        self.images.last()
    }

    /// RFC 3339 time of the first of its images.
    fn created(&self) -> &str {
        self.images.iter().map(|image| image.image.created.as_str()).min().unwrap_or_default()
    }
}

/// The batches of which an image is meant, newest first. Images that no bake made are in none.
pub fn batches(stock: &[Stock], meant: &dyn Fn(&Stock) -> bool) -> Vec<Batch> {
    let mut by_bake: BTreeMap<&str, Vec<&Stock>> = BTreeMap::new();
    for image in stock {
        if let Some(bake) = image.bake() {
            by_bake.entry(bake).or_default().push(image);
        }
    }
    let mut batches: Vec<_> = by_bake
        .into_values()
        .filter(|images| images.iter().any(|image| meant(image)))
        .map(|images| {
            let mut images: Vec<_> = images.into_iter().cloned().collect();
            images.sort_by_key(|image| (image.copy_of.is_none(), image.image.created.clone()));
            let family = images.last().map(Stock::family).unwrap_or_default();
            Batch { images, family, verdict: Verdict::Retire, why: Vec::new() }
        })
        .collect();
    batches.sort_by(|a, b| b.created().cmp(a.created()));
    batches
}

/// Keeps the newest that can be launched of each family and architecture, and what is not old enough.
pub(super) fn keep(batches: &mut [Batch], wanted: &Wanted<'_>) {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for batch in batches {
        let Some(original) = batch.original() else { continue };
        // What a bake that replaces an image has registered under its own id may still be undone.
        let can_be_launched = original.image.state == "available" && !original.is_provisional();
        let arch = original.image.arch.clone();
        let count = counts.entry((batch.family.clone(), arch.clone())).or_default();
        if can_be_launched && *count < wanted.keep {
            *count += 1;
            let of = match wanted.keep {
                1 => format!("the newest of {} {arch}", batch.family),
                keep => format!("one of the {keep} newest of {} {arch}", batch.family),
            };
            batch.why.push(of);
        } else if let Some(older) = wanted.older
            && !is_older(batch.created(), older, wanted.now)
        {
            batch
                .why
                .push(format!("not older than {}", crate::recipe::units::show_duration(older.as_secs())));
        } else {
            continue;
        }
        batch.verdict = Verdict::Keep;
    }
}

/// What has no age that can be read is not old.
fn is_older(created: &str, older: std::time::Duration, now: Timestamp) -> bool {
    let age = created.parse::<Timestamp>().map(|created| now.duration_since(created));
    age.is_ok_and(|age| !age.is_negative() && age.unsigned_abs() > older)
}

/// Excludes what something stands against: a use, a protection, an image that was baked on it and stays.
pub(super) fn exclude(batches: &mut [Batch], inventory: &Inventory, action: Action) {
    for batch in batches.iter_mut().filter(|batch| batch.verdict == Verdict::Retire) {
        for image in &batch.images {
            batch.why.extend(against(image, action).map(|why| placed(why, image, &batch.images)));
            let uses = inventory.uses_of(image).map(|one| placed(one.by.clone(), image, &batch.images));
            batch.why.extend(uses);
        }
        if !batch.why.is_empty() {
            batch.verdict = Verdict::Excluded;
        }
    }
    // A child that goes itself stands against nothing, so what stays is asked until nothing more does.
    loop {
        let going: BTreeSet<(String, String)> = batches
            .iter()
            .filter(|batch| batch.verdict == Verdict::Retire && action == Action::Deregister)
            .flat_map(|batch| &batch.images)
            .map(|image| (image.region.clone(), image.image.id.clone()))
            .collect();
        let mut changed = false;
        for batch in batches.iter_mut().filter(|batch| batch.verdict == Verdict::Retire) {
            let own: BTreeSet<_> = batch.images.iter().map(|image| image.image.id.clone()).collect();
            let mut stays = Vec::new();
            for image in &batch.images {
                let children = inventory.children_of(image).filter(|child| {
                    !own.contains(&child.image.id)
                        && !going.contains(&(child.region.clone(), child.image.id.clone()))
                });
                stays.extend(children.map(|child| as_use(child, image).by));
            }
            if !stays.is_empty() {
                batch.why = stays;
                batch.verdict = Verdict::Excluded;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// What of an image itself stands against an action.
fn against(image: &Stock, action: Action) -> impl Iterator<Item = String> {
    let state = match image.image.state.as_str() {
        _ if image.is_provisional() => Some(
            "its bake has not given it its name yet (of a bake that died, `bakehouse gc` finishes or undoes it)"
                .to_owned(),
        ),
        "pending" | "transient" => Some("it is still being made".to_owned()),
        "disabled" if action != Action::Deregister => Some("it is disabled already".to_owned()),
        state @ ("failed" | "error" | "invalid") if action != Action::Deregister => {
            Some(format!("it is {state}: deregister it"))
        }
        _ => None,
    };
    let deprecated = image.deprecated.as_ref().filter(|_| action == Action::Deprecate);
    let deprecated = deprecated.map(|at| format!("it is deprecated already, at {at}"));
    let protected = image.protection.as_ref().filter(|_| action == Action::Deregister);
    let protected = protected.map(|how| {
        let end = end_protection(&image.image.id, Some(&image.region));
        format!("it is protected from being deregistered ({how}): {end}")
    });
    state.into_iter().chain(deprecated).chain(protected)
}

/// A reason, with the Region where the batch has images in several.
fn placed(why: String, image: &Stock, all: &[Stock]) -> String {
    let alone = all.iter().all(|other| other.region == image.region);
    if alone { why } else { format!("{why} in {}", image.region) }
}

/// One finding an image: what stays first, newest first; then what goes, children before what they were baked on.
pub(super) fn findings(batches: Vec<Batch>) -> Vec<Finding> {
    // A child is younger than what it was baked on, so that newest first is children first.
    let (going, staying): (Vec<_>, Vec<_>) =
        batches.into_iter().partition(|batch| batch.verdict == Verdict::Retire);
    let all = staying.into_iter().chain(going);
    all.flat_map(|batch| {
        let Batch { images, family, verdict, why } = batch;
        images.into_iter().map(move |image| Finding {
            image,
            family: family.clone(),
            verdict: verdict.clone(),
            why: why.clone(),
        })
    })
    .collect()
}
