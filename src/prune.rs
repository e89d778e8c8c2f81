//! Images that are no longer needed, found and taken out of use; never one that something still refers to.
//!
//! An image and its copies in other Regions are one *batch*: what one bake made. A batch goes as a whole or stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use crate::cloud::shelf::{Action, Shelf, Sort, Stock, Use};
use crate::stop::Stop;

mod choose;

pub use choose::{Batch, batches};

/// Which images are meant.
pub struct Wanted<'a> {
    /// Whether an image is meant by its name and tags.
    pub meant: &'a dyn Fn(&Stock) -> bool,
    /// The newest of each family and architecture that stay.
    pub keep: usize,
    /// Only what is older.
    pub older: Option<Duration>,
    /// What is done to them.
    pub action: Action,
    /// The time now.
    pub now: Timestamp,
}

/// What is to be done with an image, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is to go (nothing was touched yet).
    Retire,
    /// It went.
    Retired,
    /// It could not be taken out of use.
    Failed,
    /// It stays: it is among the newest, or not old enough.
    Keep,
    /// It stays, though it would be due: something stands against it.
    Excluded,
}

/// One image, and what becomes of it.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The image.
    #[serde(flatten)]
    pub image: Stock,
    /// Its family.
    pub family: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub why: Vec<String>,
}

/// All that the shelves hold, asked once.
pub struct Inventory {
    /// Every image of this account in the Regions that are looked at, newest first.
    pub stock: Vec<Stock>,
    /// What refers to those of ours, other images left out.
    pub uses: Vec<(String, Use)>,
}

impl Inventory {
    /// What stands on the shelves; what refers to it is not asked yet.
    ///
    /// # Errors
    /// Those of the cloud.
    pub async fn stock(shelves: &[Box<dyn Shelf + '_>]) -> Result<Self> {
        let mut inventory = Self { stock: Vec::new(), uses: Vec::new() };
        for shelf in shelves {
            inventory.stock.extend(shelf.stock().await?);
        }
        Ok(inventory)
    }

    /// Asks what refers to the images that `meant` says, and to all others of their bakes.
    ///
    /// # Errors
    /// Those of the cloud: what cannot be asked might refer to anything, so nothing is guessed.
    pub async fn ask(
        &mut self,
        shelves: &[Box<dyn Shelf + '_>],
        meant: impl Fn(&Stock) -> bool,
    ) -> Result<()> {
        let bakes: BTreeSet<&str> =
            self.stock.iter().filter(|one| meant(one)).filter_map(|one| one.bake()).collect();
        let mut uses = Vec::new();
        for shelf in shelves {
            let here = self.stock.iter().filter(|one| one.region == shelf.region());
            let ids: Vec<_> = here
                .filter(|one| meant(one) || one.bake().is_some_and(|bake| bakes.contains(bake)))
                .map(|one| one.image.id.clone())
                .collect();
            let found = shelf.uses(&ids).await?;
            uses.extend(found.into_iter().map(|one| (shelf.region().to_owned(), one)));
        }
        self.uses = uses;
        Ok(())
    }

    /// What refers to an image, but for other images.
    pub fn uses_of<'a>(&'a self, image: &'a Stock) -> impl Iterator<Item = &'a Use> {
        let here =
            move |(region, one): &&(String, Use)| *region == image.region && one.image == image.image.id;
        self.uses.iter().filter(here).map(|(_, one)| one)
    }

    /// The images that were baked on an image or copied from it.
    pub fn children_of<'a>(&'a self, image: &'a Stock) -> impl Iterator<Item = &'a Stock> {
        self.stock.iter().filter(|other| other.image.id != image.image.id && refers(other, image))
    }
}

/// Whether an image's provenance names another.
fn refers(child: &Stock, image: &Stock) -> bool {
    let base = child.image.base.as_deref();
    let is_base = base == Some(&image.image.id)
        || image.snapshots.iter().any(|snapshot| base == Some(snapshot.id.as_str()));
    let is_source =
        child.copy_of.as_ref().is_some_and(|(id, region)| *id == image.image.id && *region == image.region);
    is_base || is_source
}

/// How a child is told of as a reason.
pub fn as_use(child: &Stock, of: &Stock) -> Use {
    let how = match child.copy_of {
        Some((ref id, _)) if *id == of.image.id => "copied from it",
        _ => "baked on it",
    };
    let place = if child.region == of.region { String::new() } else { format!(" in {}", child.region) };
    let by = format!("image {} ({}){place} was {how}", child.image.name, child.image.id);
    Use { image: of.image.id.clone(), sort: Sort::Image, by }
}

/// Settles what becomes of each image that is meant.
pub fn settle(inventory: &Inventory, wanted: &Wanted<'_>) -> Vec<Finding> {
    let mut batches = choose::batches(&inventory.stock, wanted.meant);
    choose::keep(&mut batches, wanted);
    choose::exclude(&mut batches, inventory, wanted.action);
    choose::findings(batches)
}

/// Takes what is to go out of use, those first that were baked on others: one whose child could not go stays.
/// What fails keeps no other from going; once stopping is asked for, what is to go still stays as it is.
pub async fn act(
    findings: &mut [Finding],
    shelves: &[Box<dyn Shelf + '_>],
    action: Action,
    stop: &Stop,
    tell: &dyn Fn(&Finding),
) -> Vec<anyhow::Error> {
    let by_region: BTreeMap<&str, &dyn Shelf> =
        shelves.iter().map(|shelf| (shelf.region(), shelf.as_ref())).collect();
    let mut failures = Vec::new();
    let mut stay: Vec<Stock> = Vec::new();
    for finding in findings.iter_mut().filter(|finding| finding.verdict == Verdict::Retire) {
        if stop.signal().is_some() {
            break;
        }
        let image = &finding.image;
        if let Some(child) = stay.iter().find(|child| refers(child, image)) {
            finding.why = vec![as_use(child, image).by];
            finding.verdict = Verdict::Excluded;
            stay.push(image.clone());
            continue;
        }
        let done = match by_region.get(image.region.as_str()) {
            Some(shelf) => shelf.retire(image, action).await,
            None => Ok(()),
        };
        match done {
            Ok(()) => finding.verdict = Verdict::Retired,
            Err(error) => {
                finding.verdict = Verdict::Failed;
                finding.why = vec![format!("{error:#}")];
                stay.push(image.clone());
                failures.push(error);
            }
        }
        tell(finding);
    }
    failures
}

#[cfg(test)]
mod tests;
