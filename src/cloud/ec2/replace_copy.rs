//! A copy that takes the place of the image that has its name in another Region.
//!
//! As at home (`replace.rs`) there is no rename, and a copy takes minutes, or hours: so it is made under a name of its
//! own. Once it is complete all that can be refused of the new registration is tried, and who has the name is asked
//! anew; only then does the old image go. Then an image of the copy's snapshots is registered under the name, and the
//! copy's own registration goes. Each step is found again by names and tags, so that another run of `publish` finishes
//! what one began; from the old image's end until the new one has its name a request to stop is not heard.

use anyhow::{Context as _, Result};
use aws_sdk_ec2::types::Image;

use super::api::filter;
use super::explain::Trouble;
use super::inherited::Inherited;
use super::region::There;
use super::replace::{own_snapshots_of, snapshots_of};
use super::retry::{Effort, insist, insist_looking, search};
use super::shelf::protection;
use super::watch::Sort;
use crate::cloud::ImageSpec;
use crate::cloud::publish::{InRegion, Publishable};
use crate::plan::protected;
use crate::recipe::{Collision, CopySpec};
use crate::stop::Stop;

impl There<'_> {
    /// The copy under the image's name, available, in the place of an image that has that; none where nothing is to be
    /// made.
    ///
    /// # Errors
    /// [`crate::error::Kind::Name`] where the image that has the name is protected; those of EC2.
    pub(super) async fn copy_in_place(
        &self,
        spec: &CopySpec,
        delete_snapshots: bool,
        report: &mut InRegion,
    ) -> Result<Option<String>> {
        let name = &self.image.name;
        let provisional = Publishable { name: format!("copy-of-{}", self.image.id), ..self.image.clone() };
        let aside = self.ec2.there(self.api.clone(), &provisional, self.how);
        let begun = aside.holder(&provisional.name).await?.filter(|found| self.is_copy(found));
        let old = match self.holder(name).await? {
            Some(own) if self.is_copy(&own) => return self.has_its_name(begun, spec, report).await,
            None if begun.is_none() => return self.copy(spec, report).await,
            old => old,
        };
        self.replaceable(old.as_ref())?;
        if !self.how.act {
            let old = old.and_then(|old| old.image_id);
            report.missing.extend(old.map(|old| format!("take the place of {old}, which has its name")));
            return Ok(None);
        }
        let Some(copy) = aside.copy(spec, report).await? else { return Ok(None) };
        let (copied, root, new) = self.prepared(&copy).await?;
        // As long as the old image has the name EC2 may refuse that: so it is asked with one that nobody has.
        let unnamed = ImageSpec { name: format!("{}-again", provisional.name), ..new.clone() };
        insist(self.effort(), || self.api.may_register_image(&root, &unnamed))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| {
                format!("asking whether {copy} in {} may be given the name {name:?}", self.api.region)
            })?;
        // The copy may have taken hours.
        let old = match self.holder(name).await? {
            Some(own) if self.is_copy(&own) => return self.has_its_name(Some(copied), spec, report).await,
            old => old,
        };
        self.replaceable(old.as_ref())?;
        let snapshots = match &old {
            Some(old) if delete_snapshots => own_snapshots_of(&self.api, self.effort(), old).await?,
            _ => Vec::new(),
        };
        self.how.stop.check()?;
        if let Some(old) = old.and_then(|old| old.image_id) {
            let stay = self.let_go(&old, &snapshots).await?;
            self.say(&format!("{old} had the name {name}: it is deregistered"));
            report.done.push(format!("take the place of {old}, which had its name"));
            report.failures.extend(stay);
        }
        let never = Stop::default();
        let image = self.named_as_wanted(&copy, &root, &new, self.ec2.effort(Some(&never))).await?;
        report.image = Some(image.clone());
        self.available(&image, Sort::Image, self.ec2.settings.image, &never).await?;
        report.failures.extend(self.let_go(&copy, &[]).await?);
        Ok(Some(image))
    }

    /// The copy that has the image's name already. One that was made aside is not needed (any more): it goes, and its
    /// snapshots too, unless they are the named one's.
    async fn has_its_name(
        &self,
        aside: Option<Image>,
        spec: &CopySpec,
        report: &mut InRegion,
    ) -> Result<Option<String>> {
        let made = self.copy(spec, report).await?;
        let (Some(aside), Some(own), true) = (aside, &made, self.how.act) else { return Ok(made) };
        let own = snapshots_of(&self.seen(own, self.effort()).await?);
        let rest = snapshots_of(&aside);
        let shared = rest.iter().any(|snapshot| own.contains(snapshot));
        let rest = if shared { Vec::new() } else { rest };
        report.failures.extend(self.let_go(aside.image_id().unwrap_or_default(), &rest).await?);
        Ok(made)
    }

    fn replaceable(&self, old: Option<&Image>) -> Result<()> {
        let Some((old, how)) = old.and_then(|old| Some((old, protection(old)?))) else { return Ok(()) };
        let old = format!("{} in {}", old.image_id().unwrap_or_default(), self.api.region);
        Err(protected(&self.image.name, &old, how).into())
    }

    async fn seen(&self, image: &str, effort: Effort<'_>) -> Result<Image> {
        let doing = || format!("looking at {image} in {}", self.api.region);
        let found = insist(effort, || self.api.own_images(vec![filter("image-id", image)]))
            .await
            .map_err(Trouble::into_error)
            .with_context(doing)?;
        found.into_iter().next().with_context(doing)
    }

    /// A copy, its root's snapshot, and what an image under the name is to be of what the copy is.
    async fn prepared(&self, copy: &str) -> Result<(Image, String, ImageSpec)> {
        let found = self.seen(copy, self.effort()).await?;
        let doing = || format!("asking what {copy} in {} is", self.api.region);
        let uefi = found.boot_mode().is_some_and(|mode| mode.as_str().starts_with("uefi"));
        let uefi_data = match uefi {
            true => insist(self.effort(), || self.api.uefi_data(copy))
                .await
                .map_err(Trouble::into_error)
                .with_context(doing)?,
            false => None,
        };
        let shape = Inherited::of(&found, uefi_data);
        let root = shape.root().and_then(|root| root.ebs.as_ref()?.snapshot_id.clone());
        let root = root.with_context(doing)?;
        let spec = ImageSpec {
            name: self.image.name.clone(),
            unnumbered: None,
            description: self.image.description.clone(),
            tags: self.tags(),
            arch: self.image.arch,
            size: 0,
            shape,
            collision: Collision::Fail,
        };
        Ok((found, root, spec))
    }

    /// Registers an image under the name, of what a copy is.
    async fn named_as_wanted(
        &self,
        copy: &str,
        root: &str,
        spec: &ImageSpec,
        effort: Effort<'_>,
    ) -> Result<String> {
        let look = || async {
            let found = self.named(&spec.name).await?.filter(|image: &Image| self.is_copy(image));
            Ok(found.and_then(|image| image.image_id))
        };
        let lookup = || search(effort, self.ec2.settings.lookup, look);
        // EC2 may know the name of what was deregistered for a moment yet.
        let call = || async {
            match self.api.register_image(root, spec).await {
                Err(trouble) if trouble.is(&["InvalidAMIName.Duplicate"]) => Err(trouble.early()),
                made => made,
            }
        };
        insist_looking(effort, call, lookup)
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("giving {copy} in {} the name {:?}", self.api.region, spec.name))
    }

    /// Deregisters an image, and deletes these snapshots of it. What is left of them, in words.
    async fn let_go(&self, image: &str, snapshots: &[String]) -> Result<Option<String>> {
        let never = Stop::default();
        let effort = self.ec2.effort(Some(&never));
        let region = &self.api.region;
        let gone = match snapshots {
            [] => insist(effort, || self.api.deregister_image(image)).await.map(|()| None),
            // EC2 keeps those that another image uses.
            _ => insist(effort, || self.api.deregister_with_snapshots(image)).await.map(Some),
        };
        let told = gone
            .map_err(Trouble::into_error)
            .with_context(|| format!("deregistering {image} in {region}"))?
            .unwrap_or_default();
        // What EC2 did not delete, or did not say that it did: its answer may have been lost.
        let mut stay = Vec::new();
        for snapshot in snapshots {
            if told.deleted.contains(snapshot) || told.shared.contains(snapshot) {
                continue;
            }
            match insist(effort, || self.api.delete_snapshot(snapshot)).await {
                Err(trouble) if !trouble.is(&["InvalidSnapshot.InUse"]) => {
                    stay.push(format!("{snapshot}: {:#}", trouble.into_error()));
                }
                _ => {}
            }
        }
        Ok((!stay.is_empty()).then(|| {
            format!(
                "{image} is deregistered, but its snapshots stay: {} (once the cause is gone, `bakehouse gc --all --any-builder \
                 --older-than 1h --region {region} --yes` deletes those of bakes)",
                stay.join("; ")
            )
        }))
    }
}
