//! EC2 as a home for disks, snapshots and images: the only room that names an AWS crate.
//!
//! One AWS verb a file, each a method on [`api::Api`] that makes its call once; [`retry`] makes it again,
//! [`explain`] says what an error means, [`watch`] waits. The rest is the [`Cloud`] trait in terms of those.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use aws_sdk_ec2::types::Image;

use self::api::{Api, filter, tags};
use self::calls::Calls;
use self::capture::BAKE_TAG;
use self::decode_authorization_message::Decoder;
use self::device_names::DeviceName;
use self::explain::Trouble;
use self::retry::{Effort, insist, search};
use self::watch::{Patience, Watcher};
use super::publish::{How, Publishable, Published};
use super::shelf::Shelf;
use super::{Cloud, DiskHandle, ImageSpec, ImageSummary, Orphan, SnapshotSpec};
use crate::journal::{Journal, Thing};
use crate::plan::{BaseFacts, CleanlyClosed, DeviceFacts, DiskPlan, Place, Publishing};
use crate::recipe::{BaseSelector, CopySpec, Targets};
use crate::stop::Stop;

mod add_tags_to_resource;
mod api;
mod attach_volume;
mod base;
mod calls;
mod capture;
mod connect;
mod copy_image;
mod create_snapshot;
mod create_volume;
mod credentials;
mod current;
mod decode_authorization_message;
mod delete_snapshot;
mod delete_volume;
mod deregister_image;
mod describe_auto_scaling_groups;
mod describe_fleets;
mod describe_image_attribute;
mod describe_images;
mod describe_instances;
mod describe_launch_configurations;
mod describe_launch_template_versions;
mod describe_launch_templates;
mod describe_parameters;
mod describe_regions;
mod describe_snapshot_attribute;
mod describe_snapshots;
mod describe_spot_fleet_requests;
mod describe_spot_instance_requests;
mod describe_volumes;
mod detach_volume;
mod device_names;
mod disable_image;
mod disk;
mod enable_image_deprecation;
mod enable_image_deregistration_protection;
mod explain;
mod get_object;
mod get_parameter;
mod get_parameters;
mod given;
mod head_object;
mod http;
mod iam;
mod inherited;
mod list_tags_for_resource;
mod modify_image_attribute;
mod modify_snapshot_attribute;
mod objects;
mod parameter;
mod place;
mod publish;
mod put_parameter;
mod region;
mod regions;
mod register_image;
mod replace;
mod replace_copy;
mod retry;
mod shelf;
mod undo;
mod uses;
mod watch;

pub use connect::{Settings, metadata_endpoint_set, on_instance};
pub use credentials::Role;
pub use iam::{Builders, actions, policy};

/// A connection to EC2 in one Region.
pub struct Ec2 {
    api: Api,
    /// The instance metadata service, where this host may have one.
    imds: Option<aws_config::imds::Client>,
    settings: Settings,
    calls: Calls,
    regions: regions::Regions,
    decoder: Decoder,
    watcher: Watcher,
    place: tokio::sync::OnceCell<Place>,
    /// The device names of attached volumes, each locked until its volume is detached.
    held: Mutex<HashMap<String, DeviceName>>,
    /// What a Describe call has shown since this connection was made. Anything else may have been made a moment
    /// ago, here or by a bake that died, and not be known to every call yet.
    seen: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Ec2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ec2").field("region", &self.api.region).finish_non_exhaustive()
    }
}

impl Ec2 {
    /// Connects by the SDK's standard chain of settings. No call of EC2 is made yet.
    ///
    /// # Errors
    /// [`crate::error::Kind::Host`] when no Region is set anywhere.
    pub async fn connect(settings: Settings) -> Result<Self> {
        connect::connect(settings).await
    }

    /// The Region.
    pub fn region(&self) -> &str {
        &self.api.region
    }

    fn effort<'a>(&'a self, stop: Option<&'a Stop>) -> Effort<'a> {
        let Settings { call: limit, tries, visible, .. } = self.settings;
        Effort { limit, tries, visible, stop, decoder: Some(&self.decoder) }
    }

    fn patience(&self, limit: Duration) -> Patience {
        Patience { first: self.settings.first, limit, visible: self.settings.visible }
    }

    fn seen_ids(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self, id: &str) {
        self.seen_ids().insert(id.to_owned());
    }

    fn was_seen(&self, id: &str) -> bool {
        self.seen_ids().contains(id)
    }
}

#[async_trait]
impl Cloud for Ec2 {
    fn name(&self) -> &'static str {
        "ec2"
    }

    async fn place(&self) -> Result<Place> {
        self.where_am_i().await.cloned()
    }

    async fn find_base(&self, selector: &BaseSelector) -> Result<BaseFacts> {
        self.base(selector).await
    }

    async fn find_device(
        &self,
        device: &DeviceFacts,
        arch: Option<&str>,
        root_device: Option<&str>,
    ) -> Result<BaseFacts> {
        self.base_by_device(device, arch, root_device).await
    }

    async fn image_named(&self, name: &str) -> Result<Option<String>> {
        let image = insist(self.effort(None), || self.own_image(name))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("looking for an image named {name:?}"))?;
        Ok(image.and_then(|image| image.image_id))
    }

    async fn make_disk(
        &self,
        plan: &DiskPlan,
        base: &BaseFacts,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<DiskHandle> {
        self.new_disk(plan, base, journal, stop).await
    }

    async fn capture(
        &self,
        disk: &DiskHandle,
        _closed: CleanlyClosed,
        spec: &SnapshotSpec,
        journal: &Journal,
        _stop: &Stop,
    ) -> Result<String> {
        self.snapshot(disk, spec, journal).await
    }

    async fn release_disk(&self, disk: &DiskHandle, journal: &Journal) -> Result<()> {
        self.let_go(disk, journal).await
    }

    async fn snapshot_complete(
        &self,
        snapshot: &str,
        stop: &Stop,
        progress: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<()> {
        self.completed(snapshot, stop, progress).await
    }

    async fn register(
        &self,
        snapshot: &str,
        spec: &ImageSpec,
        base: &BaseFacts,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<String> {
        self.new_image(snapshot, spec, base, journal, stop).await
    }

    fn reaches(&self, thing: &Thing) -> Result<()> {
        self.is_here(thing)
    }

    async fn undo(&self, thing: &Thing, made: Option<&str>) -> Result<()> {
        self.unmake(thing, made).await
    }

    async fn images(&self) -> Result<Vec<ImageSummary>> {
        let tagged = vec![filter("tag-key", BAKE_TAG)];
        let images = insist(self.effort(None), || self.api.own_images(tagged.clone()))
            .await
            .map_err(Trouble::into_error)
            .context("listing the images that bakes made")?;
        let mut images: Vec<_> = images.iter().map(summary).collect();
        images.sort_by(|a, b| b.created.cmp(&a.created));
        Ok(images)
    }

    async fn standing_image(&self, thing: &Thing) -> Result<Option<String>> {
        let Thing::Image { name, bake, .. } = thing else { return Ok(None) };
        self.is_here(thing)?;
        let image = insist(self.effort(None), || self.image_registered(name, bake))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("looking for the image {name:?} of {bake}"))?;
        let stands = |image: &Image| {
            matches!(image.state().map(|state| state.as_str()), Some("available" | "pending" | "transient"))
        };
        Ok(image.filter(stands).and_then(|image| image.image_id))
    }

    async fn begun_snapshot(&self, thing: &Thing) -> Result<Option<String>> {
        let Thing::Snapshot { volume, bake, .. } = thing else { return Ok(None) };
        self.is_here(thing)?;
        let found = search(self.effort(None), self.settings.lookup, || self.snapshots_of(volume, bake)).await;
        let ids = found
            .map_err(Trouble::into_error)
            .with_context(|| format!("looking for a snapshot of {volume}"))?;
        Ok(ids.unwrap_or_default().into_iter().next())
    }

    async fn shelf(&self, region: Option<&str>) -> Result<Box<dyn Shelf + '_>> {
        let region = region.unwrap_or(&self.api.region);
        Ok(Box::new(shelf::RegionShelf { api: self.regions.api(region), effort: self.effort(None) }))
    }

    async fn orphans(&self, any_builder: bool) -> Result<Vec<Orphan>> {
        self.left_behind(any_builder).await
    }

    async fn check_publishing(&self, targets: &Targets, name: Option<&str>) -> Result<()> {
        self.can_publish(targets, name).await
    }

    async fn named_elsewhere(&self, copies: &[CopySpec], name: &str) -> Result<Option<String>> {
        let found = self.holders_elsewhere(copies, name).await?.into_iter().next();
        Ok(found.map(|(region, image)| format!("{} in {region}", image.image_id().unwrap_or_default())))
    }

    async fn publishable(&self, image: &str) -> Result<Option<Publishable>> {
        self.own_publishable(image).await.map(Some)
    }

    async fn publish(&self, image: &Publishable, publishing: &Publishing, how: &How<'_>) -> Published {
        self.publish_everywhere(image, publishing, how).await
    }

    async fn secret_parameter(&self, name: &str) -> Result<String> {
        let parameter = insist(self.effort(None), || self.api.get_secret_parameter(name))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("reading the SSM parameter {name}"))?;
        Ok(parameter.value)
    }

    fn calls(&self) -> BTreeMap<String, u32> {
        self.calls.counts()
    }
}

pub(super) fn summary(image: &Image) -> ImageSummary {
    let tags = tags(image.tags());
    let root = image.root_device_name();
    let root = image.block_device_mappings().iter().find(|mapping| mapping.device_name() == root);
    let gib = root.and_then(|root| root.ebs()?.volume_size()).and_then(|gib| u64::try_from(gib).ok());
    ImageSummary {
        id: image.image_id().unwrap_or_default().to_owned(),
        name: image.name().unwrap_or_default().to_owned(),
        state: image.state().map_or_else(String::new, |state| state.as_str().to_owned()),
        arch: image.architecture().map_or_else(String::new, |arch| arch.as_str().to_owned()),
        created: image.creation_date().unwrap_or_default().to_owned(),
        size: gib.map(inherited::bytes),
        base: tags.get("bakehouse:base").cloned(),
        tags,
    }
}
