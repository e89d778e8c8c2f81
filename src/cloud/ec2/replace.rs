//! An image that takes the place of the one that has its name.
//!
//! EC2 has no rename, and a name is one image's alone, so that there must be a moment in which neither has it. The
//! order keeps that moment short, and keeps an image that works standing throughout:
//!
//! 1. The new image is registered under the bake's id, waited for, and its billing compared: all that can be
//!    refused is refused here, while the old image stands.
//! 2. The journal notes the old image, then it is deregistered: from here on there is no way back, only forward.
//! 3. The new image is registered again, under the name, on the same snapshot.
//! 4. The image under the bake's id goes, and with it, where that was asked for, the old image's snapshots.
//!
//! A bake that dies between 2 and 3 is finished by whoever takes up its journal.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_ec2::types::Image;

use super::Ec2;
use super::api::{Api, any_of, filter};
use super::capture::{Registration, bake_of, is_of};
use super::disk::never_came_to_be;
use super::explain::Trouble;
use super::retry::{Effort, insist, jitter, search};
use super::shelf::protection;
use crate::error::{Failure, Kind, kind_of};
use crate::journal::{Journal, Standing, Thing};
use crate::plan::{BakeId, protected};
use crate::stop::Stop;

/// How often a name that somebody else takes meanwhile is taken back.
pub(super) const ROUNDS: u32 = 5;

impl Ec2 {
    /// Registers an image in the place of the one that has its name, where one has.
    pub(super) async fn replacing(
        &self,
        new: &Registration<'_>,
        delete_snapshots: bool,
        stop: &Stop,
    ) -> Result<(String, u32)> {
        let bake = bake_of(&new.spec.tags)?;
        let resumed = half_replaced(new.journal);
        if !resumed {
            let old = match self.image_in_the_way(new, &bake, stop).await? {
                ControlFlow::Continue(old) => old,
                ControlFlow::Break(made) => return Ok(made),
            };
            if let Some(how) = protection(&old) {
                return Err(protected(&new.spec.name, old.image_id().unwrap_or_default(), None, how).into());
            }
            let provisional = Thing::Provisional { region: self.api.region.clone(), bake: bake.clone() };
            let spec = crate::cloud::ImageSpec { name: bake.0.clone(), ..new.spec.clone() };
            self.registered(&Registration { spec: &spec, ..*new }, provisional, stop).await?;
            stop.check()?;
            self.deregister_old(&old, new, delete_snapshots).await?;
        }
        // A request to stop is no longer heard: the name is nobody's.
        let never = Stop::default();
        // A Describe call may show such a one for a while yet.
        let is_deregistered = |image: &Image| replaced(image, new.journal) == Some(Standing::Made);
        let mut round = 1;
        loop {
            for entry in new.journal.owned() {
                if let (Thing::Replaced { image, .. }, None) = (&entry.thing, &entry.made) {
                    self.deregister(image).await.map_err(|error| self.half_way(error, new))?;
                }
            }
            let thing = self.image_thing(new.spec)?;
            let error = match self.registered(new, thing.clone(), &never).await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            };
            let had_it = is_made(&thing, new.journal);
            self.forget_failed(&thing, new.journal).await.unwrap_or_else(|error| {
                tracing::warn!("looking after {thing}: {error:#}");
            });
            let holder = self.holder_after(had_it, &new.spec.name).await;
            // Of several bakes that replace one image at once the last one wins. One that had the name already and
            // lost it is not the last, nor is one that is taken up again.
            let again = kind_of(&error) == Kind::Name && round < ROUNDS;
            round += 1;
            match holder {
                // It is this bake's own, and slow: nobody else came between.
                Some(own) if is_of(&own, &bake) => {
                    return Err(self.half_way(error, new));
                }
                // Nobody has it any more: EC2 may know the name of what was deregistered for a while yet.
                None if again => tokio::time::sleep(jitter(round + 1)).await,
                Some(gone) if again && is_deregistered(&gone) => {
                    tokio::time::sleep(jitter(round + 1)).await;
                }
                None => return Err(self.half_way(error, new)),
                Some(gone) if is_deregistered(&gone) => return Err(self.half_way(error, new)),
                Some(other) if again && !resumed && protection(&other).is_none() => {
                    if let Err(error) = self.deregister_old(&other, new, delete_snapshots).await {
                        return Err(match replaced(&other, new.journal) {
                            Some(_) => error,
                            // It was refused, so that it stands: it may be protected by now.
                            None => self.superseded(&other, new, error).await,
                        });
                    }
                }
                Some(other) => return Err(self.superseded(&other, new, error).await),
            }
        }
    }

    /// The image of another that has the name; where nobody has it, the new one takes it at once, and what was made
    /// is returned.
    async fn image_in_the_way(
        &self,
        new: &Registration<'_>,
        bake: &BakeId,
        stop: &Stop,
    ) -> Result<ControlFlow<(String, u32), Image>> {
        let others = |image: &Image| !is_of(image, bake);
        let mut round = 1;
        loop {
            if let Some(old) = self.holder_of(&new.spec.name).await?.filter(others) {
                return Ok(ControlFlow::Continue(old));
            }
            let error = match self.registered(new, self.image_thing(new.spec)?, stop).await {
                Ok(made) => return Ok(ControlFlow::Break(made)),
                Err(error) => error,
            };
            if stop.check().is_err() {
                return Err(error);
            }
            // Nobody had it for the moment between another bake's old image and its new one, or EC2 knows the name of
            // what was deregistered for a while yet.
            if kind_of(&error) == Kind::Name && round < ROUNDS {
                round += 1;
                tokio::time::sleep(jitter(round)).await;
                continue;
            }
            // Another bake may have taken the name from an image that was not available yet.
            let had_it = is_made(&self.image_thing(new.spec)?, new.journal);
            let holder = self.holder_after(had_it, &new.spec.name).await.filter(others);
            return Err(match holder {
                Some(other) => self.superseded(&other, new, error).await,
                None => error,
            });
        }
    }

    /// Another image has the name, and is the newer one: this bake is undone. What it replaced is gone for good.
    async fn superseded(&self, other: &Image, new: &Registration<'_>, error: anyhow::Error) -> anyhow::Error {
        for entry in new.journal.owned() {
            let Thing::Replaced { name, image, snapshots, .. } = &entry.thing else { continue };
            let gone = self.let_replaced_go(name, image, snapshots, entry.made.is_some()).await;
            if let Err(error) = gone.and_then(|()| new.journal.gone(entry.number)) {
                return self.half_way(error, new);
            }
        }
        let other = other.image_id().unwrap_or_default();
        let message = format!("another bake gave the name {} to {other} meanwhile", new.spec.name);
        error.context(Failure::new(Kind::Name, message).hint("bake again where this one's content is wanted"))
    }

    /// This account's image of a name, as it is now.
    async fn holder_of(&self, name: &str) -> Result<Option<Image>> {
        insist(self.effort(None), || self.own_image(name))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("looking for the image named {name:?}"))
    }

    /// Who has the name after a registration went wrong. An image of this bake that had it and is gone was in another
    /// bake's way, whose own comes in a moment: that one is looked for.
    async fn holder_after(&self, had_it: bool, name: &str) -> Option<Image> {
        let limit = if had_it { self.settings.lookup } else { Duration::ZERO };
        search(self.effort(None), limit, || self.own_image(name)).await.unwrap_or(None)
    }

    /// Notes what is replaced, and deregisters it. The journal has it still where it may be gone.
    async fn deregister_old(
        &self,
        old: &Image,
        new: &Registration<'_>,
        delete_snapshots: bool,
    ) -> Result<()> {
        let image = old.image_id().context("finding the id of the image to be replaced")?.to_owned();
        let snapshots = match delete_snapshots {
            true => own_snapshots_of(&self.api, self.effort(None), old).await?,
            false => Vec::new(),
        };
        let entry = new.journal.intend(Thing::Replaced {
            region: self.api.region.clone(),
            name: new.spec.name.clone(),
            image: image.clone(),
            snapshots,
        })?;
        let noted = match insist(self.effort(None), || self.api.deregister_image(&image)).await {
            Ok(()) => new.journal.made(entry, &image),
            Err(trouble) if never_came_to_be(&trouble) => {
                new.journal.gone(entry)?;
                return Err(trouble.into_error())
                    .with_context(|| format!("deregistering {image}, to be replaced"));
            }
            Err(trouble) => Err(trouble.into_error()),
        };
        noted.map_err(|error| self.half_way(error, new))
    }

    /// An image that ended in failure has the name no more, and is in the way of the next try.
    async fn forget_failed(&self, thing: &Thing, journal: &Journal) -> Result<()> {
        use crate::cloud::Cloud as _;
        for entry in journal.owned().into_iter().filter(|entry| entry.thing == *thing) {
            if self.standing_image(thing).await?.is_none() {
                self.unmake(thing, entry.made.as_deref()).await?;
                journal.gone(entry.number)?;
            }
        }
        Ok(())
    }

    fn half_way(&self, error: anyhow::Error, new: &Registration<'_>) -> anyhow::Error {
        let provisional = new.journal.entries().into_iter().find_map(|entry| match entry.thing {
            Thing::Provisional { bake, .. } => Some((bake.0, entry.made.unwrap_or_default())),
            _ => None,
        });
        let (bake, image) = provisional.unwrap_or_default();
        let message = format!(
            "the image that had the name {} was deregistered, and the new one, {image}, could not be given it yet; it stands under the name {bake}",
            new.spec.name
        );
        error.context(Failure::new(Kind::Capture, message).hint(format!(
            "`bakehouse bake --resume {bake}` gives it its name, and so does `bakehouse gc --yes`"
        )))
    }

    /// Lets go of an image that was replaced: deregistered where it is not yet, its snapshots deleted where the journal
    /// names them and no other image uses them. Nothing happens while no other image has the name.
    pub(super) async fn let_replaced_go(
        &self,
        name: &str,
        image: &str,
        snapshots: &[String],
        deregistered: bool,
    ) -> Result<()> {
        let another = || async {
            let holder = self.own_image(name).await?;
            Ok(holder.filter(|holder| holder.image_id() != Some(image)))
        };
        let holder = search(self.effort(None), self.settings.lookup, another)
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("looking for the image named {name:?}"))?;
        if holder.is_none() {
            return Ok(());
        }
        if !deregistered {
            self.deregister(image).await?;
        }
        for snapshot in snapshots {
            let filters = vec![filter("block-device-mapping.snapshot-id", snapshot)];
            let users = insist(self.effort(None), || self.api.own_images(filters.clone()))
                .await
                .map_err(Trouble::into_error)
                .with_context(|| format!("looking for what uses {snapshot}"))?;
            if let Some(user) = users.iter().find(|user| user.image_id() != Some(image)) {
                tracing::warn!(
                    "{snapshot} of the image that was replaced stays: {} uses it",
                    user.image_id().unwrap_or_default()
                );
                continue;
            }
            insist(self.effort(None), || self.api.delete_snapshot(snapshot))
                .await
                .map_err(Trouble::into_error)
                .with_context(|| format!("deleting {snapshot}"))?;
        }
        Ok(())
    }
}

/// The snapshots of an image.
pub(super) fn snapshots_of(image: &Image) -> Vec<String> {
    let mappings = image.block_device_mappings().iter();
    mappings
        .filter_map(|mapping| mapping.ebs()?.snapshot_id().map(str::to_owned))
        .filter(|id| !id.is_empty())
        .collect()
}

/// Those of them that are this account's.
pub(super) async fn own_snapshots_of(api: &Api, effort: Effort<'_>, image: &Image) -> Result<Vec<String>> {
    let ids = snapshots_of(image);
    if ids.is_empty() {
        return Ok(ids);
    }
    let filters = vec![any_of("snapshot-id", &ids)];
    let own = insist(effort, || api.own_snapshots(filters.clone()))
        .await
        .map_err(Trouble::into_error)
        .context("looking for the snapshots of the image to be replaced")?;
    Ok(own.into_iter().map(|snapshot| snapshot.id).collect())
}

/// Where an image stands that a bake of this journal replaces: made is that it is deregistered.
fn replaced(image: &Image, journal: &Journal) -> Option<Standing> {
    let id = image.image_id().unwrap_or_default();
    let of_it = |thing: &Thing| matches!(thing, Thing::Replaced { image, .. } if image == id);
    journal.owned().into_iter().find(|entry| of_it(&entry.thing)).map(|entry| entry.standing)
}

/// Whether a thing was made, and is not known to be gone.
fn is_made(thing: &Thing, journal: &Journal) -> bool {
    journal.entries().iter().any(|entry| entry.thing == *thing && entry.standing == Standing::Made)
}

/// Whether a bake of this journal was on its way from the old image to the new one.
fn half_replaced(journal: &Journal) -> bool {
    journal.owned().iter().any(|entry| matches!(entry.thing, Thing::Replaced { .. }))
}
