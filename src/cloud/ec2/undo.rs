//! Undoing what a journal says, and finding what no journal speaks of any more.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::Ec2;
use super::api::filter;
use super::capture::BAKE_TAG;
use super::describe_snapshots::SnapshotSeen;
use super::disk::TOKEN_TAG;
use super::explain::Trouble;
use super::retry::{insist, search};
use crate::cloud::Orphan;
use crate::cloud::publish::SOURCE_TAG;
use crate::error::{Failure, Kind};
use crate::journal::Thing;
use crate::plan::BakeId;

/// The tag that says which instance made a thing.
const BUILDER_TAG: &str = "bakehouse:builder";

impl Ec2 {
    pub(super) async fn unmake(&self, thing: &Thing, made: Option<&str>) -> Result<()> {
        self.is_here(thing)?;
        match thing {
            Thing::Attachment { volume, instance, device, .. } => {
                self.detach(volume, instance, Some(device)).await
            }
            Thing::Volume { token, .. } => match made {
                Some(volume) => {
                    self.await_sight(volume, || self.volume_ids("volume-id", volume)).await?;
                    self.delete(volume).await
                }
                None => {
                    let by_token = || self.volume_ids("tag:bakehouse:token", token);
                    for volume in self.find(by_token).await.context("looking for a volume by its token")? {
                        self.delete(&volume).await?;
                    }
                    Ok(())
                }
            },
            Thing::Snapshot { volume, bake, .. } => {
                let ids = match made {
                    Some(snapshot) => {
                        self.await_sight(snapshot, || self.snapshots_of(volume, bake)).await?;
                        vec![snapshot.to_owned()]
                    }
                    None => {
                        let found = self.find(|| self.snapshots_of(volume, bake)).await;
                        found.with_context(|| format!("looking for a snapshot of {volume}"))?
                    }
                };
                for snapshot in ids {
                    insist(self.effort(None), || self.api.delete_snapshot(&snapshot))
                        .await
                        .map_err(Trouble::into_error)
                        .with_context(|| format!("deleting {snapshot}"))?;
                }
                Ok(())
            }
            Thing::Image { name, bake, .. } => self.unmake_image(name, bake, made).await,
            Thing::Provisional { bake, .. } => self.unmake_image(&bake.0, bake, made).await,
            Thing::Replaced { name, image, snapshots, .. } => {
                self.let_replaced_go(name, image, snapshots, made.is_some()).await
            }
            // Of a good image: whoever published it finishes it, or retires it.
            Thing::Copy { .. } => Ok(()),
            Thing::StoreFile { path } => {
                Err(Failure::new(Kind::Internal, format!("{} is no thing of EC2", path.display())).into())
            }
        }
    }

    async fn unmake_image(&self, name: &str, bake: &BakeId, made: Option<&str>) -> Result<()> {
        let one = || async move {
            let image = self.image_registered(name, bake).await?;
            Ok(image.and_then(|image| image.image_id).map(|image| vec![image]))
        };
        let ids = match made {
            Some(image) => {
                self.await_sight(image, one).await?;
                vec![image.to_owned()]
            }
            None => self.find(one).await.with_context(|| format!("looking for the image {name:?}"))?,
        };
        for image in ids {
            self.deregister(&image).await?;
        }
        Ok(())
    }

    /// # Errors
    /// That a thing is of another Region than this connection.
    pub(super) fn is_here(&self, thing: &Thing) -> Result<()> {
        let region = match thing {
            Thing::Volume { region, .. }
            | Thing::Attachment { region, .. }
            | Thing::Snapshot { region, .. }
            | Thing::Image { region, .. }
            | Thing::Provisional { region, .. }
            | Thing::Replaced { region, .. } => region,
            Thing::Copy { .. } | Thing::StoreFile { .. } => return Ok(()),
        };
        if *region == self.api.region {
            return Ok(());
        }
        let message = format!("the {thing} is in {region}, but the Region in use is {}", self.api.region);
        Err(Failure::new(Kind::Cloud, message)
            .hint(format!("set AWS_REGION={region}, then try again"))
            .into())
    }

    async fn volume_ids(&self, name: &str, value: &str) -> Result<Option<Vec<String>>, Trouble> {
        let volumes = self.api.describe_volumes(vec![filter(name, value)]).await?;
        let ids: Vec<_> = volumes.into_iter().map(|(id, _)| id).collect();
        Ok(Some(ids).filter(|ids| !ids.is_empty()))
    }

    /// Looks for a thing that was announced and perhaps never made.
    async fn find<F>(&self, look: impl FnMut() -> F) -> Result<Vec<String>>
    where
        F: Future<Output = Result<Option<Vec<String>>, Trouble>>,
    {
        let found = search(self.effort(None), self.settings.lookup, look).await;
        Ok(found.map_err(Trouble::into_error)?.unwrap_or_default())
    }

    /// A thing made a moment ago may not be known yet: deleting it would then answer that it is gone already,
    /// and it would be left behind. What this process never saw is waited for, whoever made it.
    async fn await_sight<F>(&self, id: &str, look: impl FnMut() -> F) -> Result<()>
    where
        F: Future<Output = Result<Option<Vec<String>>, Trouble>>,
    {
        if !self.was_seen(id) {
            let seen = search(self.effort(None), self.settings.visible, look).await;
            seen.map_err(Trouble::into_error).with_context(|| format!("looking for {id}"))?;
            self.seen(id);
        }
        Ok(())
    }

    pub(super) async fn left_behind(&self, any_builder: bool) -> Result<Vec<Orphan>> {
        let region = &self.api.region;
        let tagged = || vec![filter("tag-key", BAKE_TAG)];
        let volumes = insist(self.effort(None), || self.api.describe_volumes(tagged()))
            .await
            .map_err(Trouble::into_error)
            .context("listing the volumes of bakes")?;
        let snapshots = insist(self.effort(None), || self.api.own_snapshots(tagged()))
            .await
            .map_err(Trouble::into_error)
            .context("listing the snapshots of bakes")?;
        let images = insist(self.effort(None), || self.api.own_images(Vec::new()))
            .await
            .map_err(Trouble::into_error)
            .context("listing this account's images")?;
        let used: BTreeSet<&str> = images
            .iter()
            .flat_map(|image| image.block_device_mappings())
            .filter_map(|mapping| mapping.ebs()?.snapshot_id())
            .collect();
        let volumes = volumes.into_iter().map(|(id, seen)| {
            let token = seen.tags.get(TOKEN_TAG).cloned().unwrap_or_default();
            (id, Thing::Volume { region: region.clone(), token }, seen.tags, seen.created)
        });
        let snapshots = snapshots
            .into_iter()
            .filter(|one| !used.contains(one.id.as_str()) && !is_copied(one))
            .map(|one| {
                let bake = BakeId(one.tags.get(BAKE_TAG).cloned().unwrap_or_default());
                let thing = Thing::Snapshot { region: region.clone(), volume: one.volume, bake };
                (one.id, thing, one.tags, one.started.unwrap_or_default())
            });
        let builder = if any_builder { None } else { Some(self.where_am_i().await?.builder.clone()) };
        let mut orphans: Vec<_> = volumes
            .chain(snapshots)
            .map(|(id, thing, mut tags, created)| Orphan {
                thing,
                id,
                bake: BakeId(tags.remove(BAKE_TAG).unwrap_or_default()),
                builder: tags.remove(BUILDER_TAG),
                created,
            })
            .filter(|orphan| builder.is_none() || orphan.builder == builder)
            .collect();
        orphans.sort_by(|a, b| a.created.cmp(&b.created));
        Ok(orphans)
    }
}

/// Whether a snapshot is of a copy that is under way: its image may not name it yet.
fn is_copied(snapshot: &SnapshotSeen) -> bool {
    snapshot.tags.contains_key(SOURCE_TAG) && snapshot.seen.state == "pending"
}
