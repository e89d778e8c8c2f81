//! The images that stand in one Region or store: what refers to them, and how they are taken out of use.

use std::fmt;

use anyhow::Result;
use async_trait::async_trait;
use serde::Serialize;

use super::ImageSummary;
pub use crate::plan::FAMILY_TAG;

/// The tag that says which bake made an image. Copies carry it too.
pub const BAKE_TAG: &str = "bakehouse:bake";

/// An image that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stock {
    /// What a list shows of it.
    #[serde(flatten)]
    pub image: ImageSummary,
    /// Where it stands: a Region, or `local`.
    pub region: String,
    /// Its description.
    pub description: String,
    /// Its snapshots, the root's first.
    pub snapshots: Vec<Held>,
    /// RFC 3339 time since when, or from when on, it is deprecated.
    pub deprecated: Option<String>,
    /// How it is protected from being deregistered, in EC2's words (`enabled-with-cooldown`); none where it is not.
    pub protection: Option<String>,
    /// What it is a copy of: image and Region.
    pub copy_of: Option<(String, String)>,
    /// Whether everybody may launch it.
    pub public: bool,
    /// RFC 3339 time of the last launch, where the cloud tells (a day late).
    pub last_launched: Option<String>,
}

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// `snap-…`.
    pub id: String,
    /// The volume's size in bytes.
    pub size: u64,
    /// Whether the image's own bake made it, as its tag says: no other goes with the image.
    pub ours: bool,
}

impl Stock {
    /// The bake that made it, where its tags tell: only such images are ours.
    pub fn bake(&self) -> Option<&str> {
        self.image.tags.get(BAKE_TAG).map(String::as_str).filter(|bake| !bake.is_empty())
    }

    /// Whether its name is its bake's id: the bake has not given it its name yet.
    pub fn is_provisional(&self) -> bool {
        self.bake() == Some(self.image.name.as_str())
    }

    /// Its family: by its tag, else by its name.
    pub fn family(&self) -> String {
        let tagged = self.image.tags.get(FAMILY_TAG).filter(|family| !family.is_empty());
        tagged.cloned().unwrap_or_else(|| crate::recipe::family::of_name(&self.image.name))
    }

    /// The snapshots that go with it where it is deregistered.
    pub fn own_snapshots(&self) -> impl Iterator<Item = &Held> {
        self.snapshots.iter().filter(|snapshot| snapshot.ours)
    }

    /// The sizes of all its snapshots, in bytes.
    pub fn bytes(&self) -> u64 {
        self.snapshots.iter().map(|snapshot| snapshot.size).sum()
    }
}

/// The sort of thing that refers to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// An instance in any state but terminated.
    Instance,
    /// A version of a launch template.
    LaunchTemplate,
    /// An Auto Scaling launch configuration.
    LaunchConfiguration,
    /// An Auto Scaling group that names the image itself, in an override.
    AutoScalingGroup,
    /// An EC2 Fleet that names the image itself, in an override.
    Fleet,
    /// A Spot Fleet that names the image in a launch specification.
    SpotFleet,
    /// A Spot request that may launch an instance of the image.
    SpotRequest,
    /// An SSM parameter whose value names the image.
    Parameter,
    /// An image that was baked on it or copied from it.
    Image,
}

/// One reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The image referred to.
    #[serde(skip)]
    pub image: String,
    /// The sort of what refers.
    pub sort: Sort,
    /// Which, in words: `instance i-… (running)`.
    pub by: String,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by)
    }
}

/// What [`Shelf::retire`] does to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Others no longer find it by listing; it can be launched still.
    Deprecate,
    /// It can no longer be launched, and its shares end; it can be enabled again.
    Disable,
    /// It goes, and the snapshots that its bake made with it.
    Deregister,
}

impl Action {
    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deprecate => "deprecate",
            Self::Disable => "disable",
            Self::Deregister => "deregister",
        }
    }
}

/// The images of one Region or store.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// The Region; `local` for the store.
    fn region(&self) -> &str;

    /// Every image of this account, disabled and deprecated ones too, newest first; of the local store, all.
    async fn stock(&self) -> Result<Vec<Stock>>;

    /// An image of whatever account, where it is to be seen.
    async fn image(&self, id: &str) -> Result<Option<Stock>>;

    /// What refers to any of these images, but for other images.
    async fn uses(&self, images: &[String]) -> Result<Vec<Use>>;

    /// With whom an image is shared, in words.
    async fn shares(&self, image: &str) -> Result<Vec<String>>;

    /// Whether that can be done to an image here.
    fn can(&self, action: Action) -> bool;

    /// Takes an image out of use. Doing it twice is no error.
    async fn retire(&self, image: &Stock, action: Action) -> Result<()>;
}
