//! The [`Cloud`] trait in our own vocabulary: base, disk, snapshot, image. `ec2/` is the only room that names
//! an AWS crate; `local/` is the store. Knows nothing of mounts or packages.

use std::collections::BTreeMap;

use anyhow::Result;
use async_trait::async_trait;

use crate::error::{Failure, Kind};
use crate::journal::{Journal, Thing};
use crate::plan::{
    Arch, BakeId, BaseFacts, CleanlyClosed, DeviceFacts, DiskPlan, Locator, Place, Publishing, Shape,
};
use crate::recipe::{BaseSelector, Collision, CopySpec, Targets};
use crate::stop::Stop;

mod binfmt;
pub mod ec2;
pub mod local;
pub mod publish;
pub mod shelf;

/// A disk that the cloud made for this bake.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DiskHandle {
    /// `vol-…`, or the store's own id.
    pub id: String,
    /// Where this host finds it.
    pub locator: Locator,
}

/// What a snapshot is captured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// Its description.
    pub description: String,
    /// Its tags, set at creation.
    pub tags: BTreeMap<String, String>,
}

/// What an image is registered with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageSpec {
    /// Its name, free when last looked at.
    pub name: String,
    /// The name that it should have had, where a number makes it another.
    #[serde(default)]
    pub unnumbered: Option<String>,
    /// Its description.
    pub description: String,
    /// Its tags, set at creation.
    pub tags: BTreeMap<String, String>,
    /// Its architecture.
    pub arch: Arch,
    /// The root volume's size in bytes.
    pub size: u64,
    /// Its attributes and block devices; the root's snapshot is the one that it is registered on.
    pub shape: Shape,
    /// What becomes of an image that has the name already.
    #[serde(default)]
    pub collision: Collision,
}

/// Something tagged as a bake's that no image needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// What it is: given to [`Cloud::undo`] with the id.
    pub thing: Thing,
    /// `vol-…`, `snap-…`, a file's name.
    pub id: String,
    /// The bake, by its tag.
    pub bake: BakeId,
    /// The builder, by its tag.
    pub builder: Option<String>,
    /// RFC 3339 time of its making.
    pub created: String,
}

/// One image in a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImageSummary {
    /// `ami-…` or `img-…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `available`, `pending`, `failed`, …
    pub state: String,
    /// Its architecture as the cloud names it.
    pub arch: String,
    /// RFC 3339.
    pub created: String,
    /// The root's size in bytes, where known.
    pub size: Option<u64>,
    /// The base's id, where its tags tell.
    pub base: Option<String>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
}

/// A home for disks, snapshots and images.
///
/// Every effect is in the journal before it happens. A call that is lost and tried again has one result: by
/// its client token where the cloud takes one, by looking for its tags or name where it takes none.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// `ec2` or `local`.
    fn name(&self) -> &'static str;

    /// Who and where the builder is.
    async fn place(&self) -> Result<Place>;

    /// The base that a selector means.
    async fn find_base(&self, selector: &BaseSelector) -> Result<BaseFacts>;

    /// A device of this host that is the user's, as a base that is baked in place; `arch` and `root_device` as the
    /// recipe says them.
    async fn find_device(
        &self,
        device: &DeviceFacts,
        arch: Option<&str>,
        root_device: Option<&str>,
    ) -> Result<BaseFacts>;

    /// The id of this account's image of that name, if there is one.
    async fn image_named(&self, name: &str) -> Result<Option<String>>;

    /// A disk with the base's content, there for this host to open; the base itself where it is the user's disk
    /// ([`BaseFacts::given`]).
    async fn make_disk(
        &self,
        plan: &DiskPlan,
        base: &BaseFacts,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<DiskHandle>;

    /// Starts the capture of a disk that was closed cleanly; the snapshot's id, perhaps still pending.
    async fn capture(
        &self,
        disk: &DiskHandle,
        closed: CleanlyClosed,
        spec: &SnapshotSpec,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<String>;

    /// Lets go of the disk for good (detach, delete); of one that is the user's, what the bake did with it is undone and
    /// no more. After [`Cloud::capture`] it may run while the snapshot is pending.
    async fn release_disk(&self, disk: &DiskHandle, journal: &Journal) -> Result<()>;

    /// Waits until a snapshot is complete; `progress` hears percentages.
    async fn snapshot_complete(
        &self,
        snapshot: &str,
        stop: &Stop,
        progress: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<()>;

    /// Registers an image on a completed snapshot and waits until it is available; its id.
    async fn register(
        &self,
        snapshot: &str,
        spec: &ImageSpec,
        base: &BaseFacts,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<String>;

    /// Whether a journal's thing is one that this connection can ask for.
    ///
    /// # Errors
    /// That it is not: it is of another Region than the one in use.
    fn reaches(&self, _thing: &Thing) -> Result<()> {
        Ok(())
    }

    /// Undoes what a journal says was intended or made; doing it twice, or for what never came to be, is no error.
    /// `made` is the id that the effect returned, where it is known; else the thing is looked for by its
    /// token, tags or name.
    async fn undo(&self, thing: &Thing, made: Option<&str>) -> Result<()>;

    /// The images that Bakehouse made or imported, newest first.
    async fn images(&self) -> Result<Vec<ImageSummary>>;

    /// The image's id, where a journal's thing is one and the image stands: a bake that died is finished then,
    /// not undone. One that failed does not stand.
    async fn standing_image(&self, thing: &Thing) -> Result<Option<String>>;

    /// The snapshot's id, where a journal's thing is one, is there, and its id was never noted.
    async fn begun_snapshot(&self, thing: &Thing) -> Result<Option<String>>;

    /// What is tagged as a bake's (volumes, snapshots that no image uses) and was made by this builder, or by
    /// any: whether the bake lives is not this room's to know.
    async fn orphans(&self, _any_builder: bool) -> Result<Vec<Orphan>> {
        Ok(Vec::new())
    }

    /// Looks whether an image of that name could be published so: its Regions are there, and the name is free in them.
    async fn check_publishing(&self, _targets: &Targets, _name: Option<&str>) -> Result<()> {
        Ok(())
    }

    /// The image that has a name in a Region that a copy goes to, with the Region, where one has.
    async fn named_elsewhere(&self, _copies: &[CopySpec], _name: &str) -> Result<Option<String>> {
        Ok(None)
    }

    /// An image of this account by its id or name, as publishing needs it; none where nothing is published at all.
    async fn publishable(&self, _image: &str) -> Result<Option<publish::Publishable>> {
        Ok(None)
    }

    /// Makes true what is not yet true of a published image, in every Region at once. What fails is told in what
    /// is returned: the image is good all the same.
    async fn publish(
        &self,
        _image: &publish::Publishable,
        _publishing: &Publishing,
        _how: &publish::How<'_>,
    ) -> publish::Published {
        publish::Published::default()
    }
    /// The images of a Region, or of the one in use; the local store has but its own.
    async fn shelf(&self, region: Option<&str>) -> Result<Box<dyn shelf::Shelf + '_>>;

    /// A secret that the cloud keeps: the value of a parameter, decrypted with the builder's own credentials.
    ///
    /// # Errors
    /// [`crate::error::Kind::Access`] where the builder may not read it; [`crate::error::Kind::Recipe`] where the cloud keeps none.
    async fn secret_parameter(&self, name: &str) -> Result<String> {
        let message = format!("{name} is an SSM parameter, which the {} cloud has not", self.name());
        let hint = "take the secret from `env` or `file` here, by an [env.NAME] of the recipe for one";
        Err(Failure::new(Kind::Recipe, message).hint(hint).into())
    }

    /// The API calls made so far: name to count. Empty where there is no API.
    fn calls(&self) -> BTreeMap<String, u32> {
        BTreeMap::new()
    }
}
