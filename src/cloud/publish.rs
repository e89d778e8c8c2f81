//! Publishing in our own vocabulary: what is wanted of an image in one Region, what is there, and the changes
//! between the two: a second run finds none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::journal::Journal;
use crate::plan::Arch;
use crate::recipe::{Protection, Share};
use crate::stop::Stop;

/// The tags of a copy that say what it is a copy of.
pub const SOURCE_TAG: &str = "bakehouse:source";
/// See [`SOURCE_TAG`]: the Region that the copied image is in.
pub const SOURCE_REGION_TAG: &str = "bakehouse:source-region";

/// An image that may be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Publishable {
    /// `ami-…`.
    pub id: String,
    /// The Region that it is in.
    pub region: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its architecture.
    pub arch: Arch,
    /// When it was made.
    pub created: Timestamp,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// How publishing is done.
pub struct How<'a> {
    /// Whether changes are made; else what they would be is told.
    pub act: bool,
    /// Where copies are announced before they are begun, in a bake.
    pub journal: Option<&'a Journal>,
    /// Says when to stop.
    pub stop: &'a Stop,
    /// Hears how it goes.
    pub heard: &'a (dyn for<'t> Fn(&'t str) + Send + Sync),
}

/// What became of publishing an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Published {
    /// By Region.
    pub regions: BTreeMap<String, InRegion>,
}

/// What became of it in one Region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InRegion {
    /// The image there, where there is one.
    pub image: Option<String>,
    /// Its snapshots.
    pub snapshots: Vec<String>,
    /// What this run changed, in words.
    pub done: Vec<String>,
    /// What is to be changed still, in words.
    pub missing: Vec<String>,
    /// Why it is missing.
    pub failures: Vec<String>,
    /// Whether another image has replaced this one at home meanwhile, so that nothing is to be finished.
    #[serde(skip)]
    pub superseded: bool,
}

impl Published {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.regions.values().all(|there| there.missing.is_empty() && there.failures.is_empty())
    }

    /// Whether another image has replaced this one meanwhile.
    pub fn is_superseded(&self) -> bool {
        self.regions.values().any(|there| there.superseded)
    }
}

/// Somebody who may use an image or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// An account's number.
    Account(String),
    /// An organization's ARN.
    Organization(String),
    /// An organizational unit's ARN.
    Unit(String),
    /// All accounts.
    Everybody,
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => f.write_str(id),
            Self::Organization(arn) | Self::Unit(arn) => {
                f.write_str(arn.split_once('/').map_or(arn.as_str(), |(_, path)| path))
            }
            Self::Everybody => f.write_str("everybody"),
        }
    }
}

/// What is wanted of the image in a Region, the copy itself aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted<'a> {
    /// Who may use it.
    pub share: &'a Share,
    /// When it is to be deprecated.
    pub deprecate_at: Option<Timestamp>,
    /// Whether it is to be protected.
    pub protection: Option<Protection>,
    /// The names of parameters that are to say its id.
    pub parameters: &'a [String],
    /// The tags that they are to have.
    pub parameter_tags: BTreeMap<String, String>,
}

impl Wanted<'_> {
    /// Whether anything is.
    pub fn is_any(&self) -> bool {
        let alone = self.deprecate_at.is_some() || self.protection.is_some();
        alone || self.share.is_any() || !self.parameters.is_empty()
    }

    /// Whether snapshots are shared with anybody.
    pub fn shares_snapshots(&self) -> bool {
        !of_snapshots(self.share).is_empty()
    }
}

/// What is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Present {
    /// The image's id.
    pub image: String,
    /// Who may launch it.
    pub launch: BTreeSet<Grantee>,
    /// Its snapshots, and who may make volumes of each.
    pub snapshots: BTreeMap<String, BTreeSet<Grantee>>,
    /// When it is deprecated.
    pub deprecated_at: Option<Timestamp>,
    /// Whether it is protected.
    pub protection: Option<Protection>,
    /// The parameters that there are: value, whether its type is an image's id, tags.
    pub parameters: BTreeMap<String, Parameter>,
}

/// A parameter that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its value.
    pub value: String,
    /// Whether its data type is `aws:ec2:image`.
    pub is_image: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// One modifying call.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The image is deprecated at a time.
    Deprecate(Timestamp),
    /// It is protected from being deregistered.
    Protect(Protection),
    /// It is shared.
    ShareImage(Vec<Grantee>),
    /// One of its snapshots is shared.
    ShareSnapshot(String, Vec<Grantee>),
    /// A parameter says its id.
    SetParameter {
        /// The name.
        name: String,
        /// What it said before.
        was: Option<String>,
    },
    /// A parameter is tagged.
    TagParameter {
        /// The name.
        name: String,
        /// The tags that it has not, or has otherwise.
        tags: BTreeMap<String, String>,
    },
}

impl Change {
    /// The parameter that it is about.
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Self::SetParameter { name, .. } | Self::TagParameter { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether it is made only once all others are.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::SetParameter { .. } | Self::TagParameter { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |those: &[Grantee]| those.iter().map(Grantee::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Deprecate(at) => write!(f, "deprecate it at {}", at.strftime("%Y-%m-%dT%H:%MZ")),
            Self::Protect(Protection::WithCooldown) => {
                f.write_str("protect it from being deregistered, with a cool-down")
            }
            Self::Protect(Protection::WithoutCooldown) => f.write_str("protect it from being deregistered"),
            Self::ShareImage(with) => write!(f, "share it with {}", listed(with)),
            Self::ShareSnapshot(snapshot, with) => write!(f, "share {snapshot} with {}", listed(with)),
            Self::SetParameter { name, was: None } => write!(f, "write the parameter {name}"),
            Self::SetParameter { name, was: Some(was) } => {
                write!(f, "write the parameter {name}, which said {was}")
            }
            Self::TagParameter { name, .. } => write!(f, "tag the parameter {name}"),
        }
    }
}

/// EC2 rounds a deprecation's time to the minute; seconds.
const MINUTE: i64 = 60;

/// The changes that make what is wanted of what is there, in their order. What others shared, protected longer
/// or tagged besides is left.
pub fn changes(wanted: &Wanted<'_>, present: &Present, now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    if let Some(at) = wanted.deprecate_at.and_then(|at| deprecation(at, present.deprecated_at, now)) {
        changes.push(Change::Deprecate(at));
    }
    match (wanted.protection, present.protection) {
        (None, _) | (Some(Protection::WithoutCooldown), Some(_)) => {}
        (wanted, present) if wanted == present => {}
        (Some(protection), _) => changes.push(Change::Protect(protection)),
    }
    let lacking = |wanted: Vec<Grantee>, present: &BTreeSet<Grantee>| -> Vec<Grantee> {
        wanted.into_iter().filter(|one| !present.contains(one)).collect()
    };
    let launch = lacking(of_images(wanted.share), &present.launch);
    if !launch.is_empty() {
        changes.push(Change::ShareImage(launch));
    }
    for (snapshot, shared) in &present.snapshots {
        let with = lacking(of_snapshots(wanted.share), shared);
        if !with.is_empty() {
            changes.push(Change::ShareSnapshot(snapshot.clone(), with));
        }
    }
    for name in wanted.parameters {
        let there = present.parameters.get(name);
        let stands = there.is_some_and(|there| there.value == present.image && there.is_image);
        if !stands {
            let was = there.map(|there| there.value.clone());
            changes.push(Change::SetParameter { name: name.clone(), was });
        }
        // A new parameter gets its tags as it is made.
        let Some(there) = there else { continue };
        let differs = |(key, value): &(&String, &String)| there.tags.get(*key) != Some(*value);
        let tags: BTreeMap<_, _> = wanted.parameter_tags.iter().filter(differs).collect();
        if !tags.is_empty() {
            let tags = tags.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            changes.push(Change::TagParameter { name: name.clone(), tags });
        }
    }
    changes
}

/// When to deprecate, where that is a change. A time that has passed meanwhile is as soon as EC2 takes it.
fn deprecation(wanted: Timestamp, present: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let soon = now.as_second() + 2 * MINUTE;
    let stands = present.is_some_and(|present| {
        (present.as_second() - wanted.as_second()).abs() <= MINUTE
            || (wanted.as_second() <= soon && present.as_second() <= soon + MINUTE)
    });
    if stands {
        return None;
    }
    let at = wanted.as_second().max(soon);
    Timestamp::from_second(at.div_euclid(MINUTE) * MINUTE).ok()
}

fn of_images(share: &Share) -> Vec<Grantee> {
    let mut all = of_snapshots(&Share { snapshots: true, ..share.clone() });
    all.extend(share.organizations.iter().cloned().map(Grantee::Organization));
    all.extend(share.organizational_units.iter().cloned().map(Grantee::Unit));
    all
}

/// EC2 shares snapshots with accounts and with everybody alone.
fn of_snapshots(share: &Share) -> Vec<Grantee> {
    if !share.snapshots {
        return Vec::new();
    }
    let accounts = share.accounts.iter().cloned().map(Grantee::Account);
    accounts.chain(share.everybody.then_some(Grantee::Everybody)).collect()
}

/// The tags of an image that a parameter can have: SSM allows fewer characters than EC2
/// (AddTagsToResource's documentation).
pub fn tags_for_parameters(tags: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fits = |text: &str| {
        text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c)) && !text.is_empty()
    };
    let kept = tags.iter().filter(|(key, value)| fits(key) && fits(value));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
