//! One Region in which an image is published: the copy found or made, what is there read, a change made.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aws_sdk_ec2::types::Image;

use super::Ec2;
use super::api::{Api, filter, tags};
use super::capture::image_verdict;
use super::enable_image_deregistration_protection::protection;
use super::explain::Trouble;
use super::publish::{not_shared, patience_for};
use super::retry::{Effort, insist, insist_looking, search};
use super::watch::{Patience, Sort, Watcher};
use crate::cloud::publish::{
    Change, How, InRegion, Present, Publishable, SOURCE_REGION_TAG, SOURCE_TAG, Wanted,
};
use crate::error::{Failure, Kind};
use crate::journal::Thing;
use crate::plan::{describe_copy, name_taken};
use crate::recipe::CopySpec;
use crate::stop::Stop;

/// A Region, and the image that is published in it.
pub(super) struct There<'a> {
    pub api: Api,
    pub watcher: Watcher,
    pub ec2: &'a Ec2,
    /// As it is in its own Region.
    pub image: &'a Publishable,
    pub how: &'a How<'a>,
}

impl There<'_> {
    pub(super) fn effort(&self) -> Effort<'_> {
        self.ec2.effort(Some(self.how.stop))
    }

    pub(super) fn say(&self, text: &str) {
        (self.how.heard)(&format!("{}: {text}", self.api.region));
    }

    /// The image itself, available where something is to be changed.
    pub(super) async fn source(&self, act: bool) -> Result<String> {
        if act {
            self.available(&self.image.id, Sort::Image, self.ec2.settings.image, self.how.stop).await?;
        }
        Ok(self.image.id.clone())
    }

    /// The copy, available; none where there is none and nothing is to be made.
    pub(super) async fn copy(&self, spec: &CopySpec, report: &mut InRegion) -> Result<Option<String>> {
        let mut begun = self.begun_copy().await?;
        let limit = patience_for(spec, self.ec2.settings.copy);
        if let Some((image, Stands::Failed)) = &begun {
            if !self.how.act {
                report.missing.push(format!("deregister {image}, a copy that failed"));
                return Ok(None);
            }
            self.forget_failed_copy(image).await?;
            begun = None;
        }
        let image = match begun {
            Some((image, _)) => image,
            None if !self.how.act => return Ok(None),
            None => {
                let image = self.begin_copy(spec).await?;
                report.done.push(format!("copy it {} as {image}", describe_copy(spec)));
                image
            }
        };
        report.image = Some(image.clone());
        if self.how.act {
            self.available(&image, Sort::Copy, limit, self.how.stop).await?;
        }
        Ok(Some(image))
    }

    pub(super) async fn forget_failed_copy(&self, image: &str) -> Result<()> {
        self.say(&format!("the copy {image} failed: it is deregistered, and made anew"));
        // What it has of snapshots is a copy too, and would be billed on.
        insist(self.effort(), || self.api.deregister_with_snapshots(image))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("deregistering {image}, a copy that failed"))
            .map(drop)
    }

    /// This image's copy, by the name, and by the tag or EC2's own word of what it is a copy of.
    async fn begun_copy(&self) -> Result<Option<(String, Stands)>> {
        let Some(found) = self.holder(&self.image.name).await? else { return Ok(None) };
        let id = found.image_id().unwrap_or_default().to_owned();
        if !self.is_copy(&found) {
            return Err(name_taken(&self.image.name, &format!("{id} in {}", self.api.region)).into());
        }
        Ok(Some((id, if is_failed(&found) { Stands::Failed } else { Stands::Well })))
    }

    /// The image that has a name in this Region.
    pub(super) async fn holder(&self, name: &str) -> Result<Option<Image>> {
        insist(self.effort(), || self.named(name))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("looking for an image named {name:?} in {}", self.api.region))
    }

    pub(super) async fn named(&self, name: &str) -> Result<Option<Image>, Trouble> {
        let images = self.api.own_images(vec![filter("name", name)]).await?;
        let mut images: Vec<_> = images.into_iter().filter(|image| image.name() == Some(name)).collect();
        // One that failed does not keep its name from the next.
        images.sort_by_key(|image| image.state().map(|state| state.as_str() == "failed"));
        Ok(images.into_iter().next())
    }

    pub(super) fn is_copy(&self, image: &Image) -> bool {
        let source = Some(self.image.id.as_str());
        image.source_image_id() == source || tags(image.tags()).get(SOURCE_TAG).map(String::as_str) == source
    }

    /// Begins the copy, announced in the journal where there is one. A copy of a good image is never undone: one
    /// that was begun is found again by its name.
    async fn begin_copy(&self, spec: &CopySpec) -> Result<String> {
        let region = &self.api.region;
        self.how.stop.check()?;
        let journal = self.how.journal;
        let thing = Thing::Copy {
            region: region.clone(),
            name: self.image.name.clone(),
            source: self.image.id.clone(),
        };
        let entry = journal.map(|journal| journal.intend(thing)).transpose()?;
        let tags = self.tags();
        // For the tries of this run. Another run finds the copy by its name, which no second one can have.
        let token = format!("{}-{:016x}", self.image.id, fastrand::u64(..));
        let look = || async {
            let found = self.named(&self.image.name).await?.filter(|image| self.is_copy(image));
            Ok(found.and_then(|image| image.image_id))
        };
        let lookup = || search(self.effort(), self.ec2.settings.lookup, look);
        let call = || fresh(self.api.copy_image(self.image, spec, &tags, &token));
        let mut made = insist_looking(self.effort(), call, lookup).await;
        if let Err(trouble) = &made
            && trouble.is(&["InvalidAMIName.Duplicate"])
        {
            // By a run that died a moment ago.
            made = lookup().await.and_then(|found| match found {
                Some(image) => Ok(image),
                None => made,
            });
        }
        if let (Some(journal), Some(entry)) = (journal, entry) {
            match &made {
                Ok(image) => journal.made(entry, image).and_then(|()| journal.kept(entry))?,
                Err(trouble) if trouble.unsure => journal.kept(entry)?,
                Err(_) => journal.gone(entry)?,
            }
        }
        let image = made
            .map_err(Trouble::into_error)
            .with_context(|| format!("copying {} to {region}", self.image.id))?;
        self.say(&format!("copying as {image}"));
        Ok(image)
    }

    /// The tags of a copy.
    pub(super) fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = self.image.tags.clone();
        tags.insert(SOURCE_TAG.to_owned(), self.image.id.clone());
        tags.insert(SOURCE_REGION_TAG.to_owned(), self.image.region.clone());
        tags
    }

    pub(super) async fn available(
        &self,
        image: &str,
        sort: Sort,
        limit: std::time::Duration,
        stop: &Stop,
    ) -> Result<()> {
        let patience = Patience { first: self.ec2.settings.first, limit, visible: self.ec2.settings.visible };
        let waiting = self.watcher.wait(sort, image, patience, |seen| image_verdict(image, seen));
        let waited = stop.race(waiting).await;
        waited
            .map(drop)
            .with_context(|| format!("waiting for {image} in {} to be available", self.api.region))
    }

    /// What is there, as far as something is wanted of it.
    pub(super) async fn look(&self, image: &str, wanted: &Wanted<'_>) -> Result<Present> {
        let ask = || format!("asking what {image} in {} is", self.api.region);
        let found = insist(self.effort(), || self.api.own_images(vec![filter("image-id", image)]))
            .await
            .map_err(Trouble::into_error)
            .with_context(ask)?
            .into_iter()
            .next()
            .ok_or_else(|| {
                let message = format!("{image} in {} is not there (any more)", self.api.region);
                Failure::new(Kind::Cloud, message).hint("somebody else may have deregistered it")
            })?;
        let mut present = Present {
            image: image.to_owned(),
            deprecated_at: found.deprecation_time().and_then(|at| at.parse().ok()),
            protection: protection(found.deregistration_protection()),
            ..Present::default()
        };
        let mappings = found.block_device_mappings().iter();
        let snapshots: Vec<_> = mappings.filter_map(|mapping| mapping.ebs()?.snapshot_id()).collect();
        if wanted.share.is_any() {
            present.launch = insist(self.effort(), || fresh(self.api.launch_permissions(image)))
                .await
                .map_err(Trouble::into_error)
                .with_context(|| format!("asking who may launch {image}"))?;
        }
        for snapshot in snapshots {
            let shared = match wanted.shares_snapshots() {
                false => Default::default(),
                true => insist(self.effort(), || fresh(self.api.volume_permissions(snapshot)))
                    .await
                    .map_err(Trouble::into_error)
                    .with_context(|| format!("asking who may use {snapshot}"))?,
            };
            present.snapshots.insert(snapshot.to_owned(), shared);
        }
        for name in wanted.parameters {
            if let Some(parameter) = self.parameter(name, !wanted.parameter_tags.is_empty()).await? {
                present.parameters.insert(name.clone(), parameter);
            }
        }
        Ok(present)
    }

    /// Makes a change. Each may be made twice.
    pub(super) async fn make(&self, change: &Change, image: &str, wanted: &Wanted<'_>) -> Result<()> {
        self.how.stop.check()?;
        let effort = self.effort();
        let region = &self.api.region;
        let made = match change {
            Change::Deprecate(at) => insist(effort, || fresh(self.api.deprecate_image(image, *at))).await,
            Change::Protect(protection) => {
                insist(effort, || fresh(self.api.protect_image(image, *protection))).await
            }
            Change::ShareImage(with) => {
                let shared = insist(effort, || fresh(self.api.share_image(image, with))).await;
                return shared
                    .map_err(|trouble| not_shared(trouble, with, region))
                    .with_context(|| format!("sharing {image}"));
            }
            Change::ShareSnapshot(snapshot, with) => {
                let shared = insist(effort, || fresh(self.api.share_snapshot(snapshot, with))).await;
                return shared
                    .map_err(|trouble| not_shared(trouble, with, region))
                    .with_context(|| format!("sharing {snapshot}"));
            }
            Change::SetParameter { name, was } => {
                return self
                    .set_parameter(name, image, was.is_none().then_some(&wanted.parameter_tags))
                    .await;
            }
            Change::TagParameter { name, tags } => {
                let tagged = insist(effort, || self.api.tag_parameter(name, tags)).await;
                return tagged
                    .map_err(Trouble::into_error)
                    .with_context(|| format!("tagging the parameter {name} in {region}"));
            }
        };
        made.map_err(Trouble::into_error).with_context(|| format!("changing {image}"))
    }
}

/// Whether EC2 has given an image up.
pub(super) fn is_failed(image: &Image) -> bool {
    image.state().is_some_and(|state| ["failed", "error", "invalid"].contains(&state.as_str()))
}

/// A call about an image that is there, and may be new: not every call knows of it and of its snapshots at once.
async fn fresh<T>(call: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    call.await.map_err(Trouble::unseen)
}

/// How a copy stands that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Well,
    Failed,
}
