//! The images of one Region, and how they are taken out of use there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use aws_sdk_ec2::types::Image;

use super::api::{Api, filter};
use super::deregister_image::Deregistered;
use super::explain::Trouble;
use super::inherited::bytes;
use super::retry::{Effort, insist};
use crate::cloud::publish::{SOURCE_REGION_TAG, SOURCE_TAG};
use crate::cloud::shelf::{Action, BAKE_TAG, Held, Shelf, Stock, Use};
use crate::error::{Failure, Kind};

/// A Region's images.
pub(super) struct RegionShelf<'a> {
    pub api: Api,
    pub effort: Effort<'a>,
}

impl RegionShelf<'_> {
    async fn deregister(&self, image: &Stock) -> Result<()> {
        let id = &image.image.id;
        // EC2 deletes all of them or none: a snapshot of the user's, which a further volume is made of, must stay.
        let all_ours = image.snapshots.iter().all(|snapshot| snapshot.ours);
        let deregister = || async move {
            match all_ours {
                true => self.api.deregister_with_snapshots(id).await,
                false => self.api.deregister_image(id).await.map(|()| Deregistered::default()),
            }
        };
        let told = insist(self.effort, deregister)
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("deregistering {id}"))?;
        // What EC2 did not delete, or did not say that it did: its answer may have been lost.
        let mut failed = Vec::new();
        for snapshot in image.own_snapshots().map(|snapshot| &snapshot.id) {
            if told.deleted.contains(snapshot) || told.shared.contains(snapshot) {
                continue;
            }
            if let Err(trouble) = insist(self.effort, || self.api.delete_snapshot(snapshot)).await {
                failed.push(format!("{snapshot}: {:#}", trouble.into_error()));
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        let message = format!("{id} is deregistered, but its snapshots stay: {}", failed.join("; "));
        Err(Failure::new(Kind::Leftover, message)
            .hint("`bakehouse gc --all --yes` deletes them once the cause is gone")
            .into())
    }
}

#[async_trait]
impl Shelf for RegionShelf<'_> {
    fn region(&self) -> &str {
        &self.api.region
    }

    async fn stock(&self) -> Result<Vec<Stock>> {
        let images = insist(self.effort, || self.api.own_images(Vec::new()))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("listing this account's images in {}", self.api.region))?;
        let tagged = || vec![filter("tag-key", BAKE_TAG)];
        let snapshots = insist(self.effort, || self.api.own_snapshots(tagged()))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("listing the snapshots of bakes in {}", self.api.region))?;
        let bakes: BTreeMap<_, _> = snapshots
            .into_iter()
            .filter_map(|mut snapshot| Some((snapshot.id, snapshot.tags.remove(BAKE_TAG)?)))
            .collect();
        let mut stock: Vec<_> = images.iter().map(|image| stocked(image, &self.api.region, &bakes)).collect();
        stock.sort_by(|a, b| (&b.image.created, &b.image.id).cmp(&(&a.image.created, &a.image.id)));
        Ok(stock)
    }

    async fn image(&self, id: &str) -> Result<Option<Stock>> {
        match insist(self.effort, || self.api.describe_image(id)).await {
            Ok(image) => Ok(image.map(|image| stocked(&image, &self.api.region, &BTreeMap::new()))),
            Err(trouble) if trouble.code.as_deref().is_some_and(|code| code.starts_with("InvalidAMIID")) => {
                Ok(None)
            }
            Err(trouble) => Err(trouble.into_error()).with_context(|| format!("looking for {id}")),
        }
    }

    async fn uses(&self, images: &[String]) -> Result<Vec<Use>> {
        super::uses::all(self, images).await
    }

    async fn shares(&self, image: &str) -> Result<Vec<String>> {
        let permissions = insist(self.effort, || self.api.launch_permissions(image))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("asking with whom {image} is shared"))?;
        Ok(permissions.iter().map(ToString::to_string).collect())
    }

    fn can(&self, _action: Action) -> bool {
        true
    }

    async fn retire(&self, image: &Stock, action: Action) -> Result<()> {
        let id = &image.image.id;
        let done = match action {
            Action::Deregister => return self.deregister(image).await,
            Action::Disable => insist(self.effort, || self.api.disable_image(id)).await,
            Action::Deprecate => {
                // The next minute but one: EC2 rounds to minutes, and takes no time that has passed.
                let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(120);
                insist(self.effort, || self.api.deprecate_image(id, at)).await
            }
        };
        done.map_err(Trouble::into_error)
            .with_context(|| format!("taking {id} out of use ({})", action.as_str()))
    }
}

/// How an image is protected from being deregistered, in EC2's words; none where it is not.
pub(super) fn protection(image: &Image) -> Option<&str> {
    image.deregistration_protection().filter(|how| how.starts_with("enabled"))
}

/// `bakes` says of each snapshot of a bake which one made it.
fn stocked(image: &Image, region: &str, bakes: &BTreeMap<String, String>) -> Stock {
    let root = image.root_device_name();
    let summary = super::summary(image);
    let bake = summary.tags.get(BAKE_TAG);
    let mut snapshots: Vec<_> = image
        .block_device_mappings()
        .iter()
        .filter_map(|mapping| {
            let ebs = mapping.ebs()?;
            let size = ebs.volume_size().and_then(|gib| u64::try_from(gib).ok()).unwrap_or_default();
            let id = ebs.snapshot_id().filter(|id| !id.is_empty())?;
            let ours = bake.is_some() && bakes.get(id) == bake;
            let held = Held { id: id.to_owned(), size: bytes(size), ours };
            Some((mapping.device_name() != root, held))
        })
        .collect();
    snapshots.sort_by_key(|(further, _)| *further);
    let tagged = || {
        let tag = |key: &str| summary.tags.get(key).map(String::as_str);
        tag(SOURCE_TAG).zip(tag(SOURCE_REGION_TAG))
    };
    let source = image.source_image_id().zip(image.source_image_region()).or_else(tagged);
    let copy_of = source.map(|(id, region)| (id.to_owned(), region.to_owned()));
    let protection = protection(image).map(str::to_owned);
    Stock {
        image: summary,
        region: region.to_owned(),
        description: image.description().unwrap_or_default().to_owned(),
        snapshots: snapshots.into_iter().map(|(_, held)| held).collect(),
        deprecated: image.deprecation_time().map(str::to_owned),
        protection,
        copy_of,
        public: image.public().unwrap_or_default(),
        last_launched: image.last_launched_time().map(str::to_owned),
    }
}
