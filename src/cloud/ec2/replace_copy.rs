//! A copy that takes the place of the image that has its name in another Region.
//!
//! As at home (`replace.rs`) there is no rename, and a copy takes minutes: so it is made under a name of its own, and
//! only once it is complete does the old image go. Then an image of the copy's snapshots is registered under the name,
//! and the copy's own registration goes. Each step is found again by names and tags, so that another run of `publish`
//! finishes what one began; from the old image's end on a request to stop is no longer heard.

use anyhow::{Context as _, Result};
use aws_sdk_ec2::types::Image;

use super::api::filter;
use super::explain::Trouble;
use super::inherited::Inherited;
use super::region::There;
use super::retry::{insist, insist_looking, search};
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
        let holder = self.holder(name).await?;
        let old = match holder {
            Some(own) if self.is_copy(&own) => {
                let made = self.copy(spec, report).await?;
                if let (Some(rest), true) = (begun, self.how.act) {
                    self.let_go(rest.image_id().unwrap_or_default(), false).await?;
                }
                return Ok(made);
            }
            None if begun.is_none() => return self.copy(spec, report).await,
            old => old,
        };
        let old_id = old.as_ref().and_then(|old| old.image_id()).map(str::to_owned);
        if let Some((how, id)) = old.as_ref().and_then(protection).zip(old_id.as_deref()) {
            return Err(protected(name, &format!("{id} in {}", self.api.region), how).into());
        }
        if !self.how.act {
            report.missing.extend(old_id.map(|old| format!("take the place of {old}, which has its name")));
            return Ok(None);
        }
        let Some(copy) = aside.copy(spec, report).await? else { return Ok(None) };
        self.how.stop.check()?;
        if let Some(old) = &old_id {
            self.let_go(old, delete_snapshots).await?;
            self.say(&format!("{old} had the name {name}: it is deregistered"));
            report.done.push(format!("take the place of {old}, which had its name"));
        }
        let image = self.named_as_wanted(&copy).await?;
        self.let_go(&copy, false).await?;
        report.image = Some(image.clone());
        Ok(Some(image))
    }

    /// An image under the name, of what a copy is.
    async fn named_as_wanted(&self, copy: &str) -> Result<String> {
        let never = Stop::default();
        let effort = || self.ec2.effort(Some(&never));
        let name = &self.image.name;
        let doing = || format!("giving {copy} in {} the name {name:?}", self.api.region);
        let found = insist(effort(), || self.api.own_images(vec![filter("image-id", copy)]))
            .await
            .map_err(Trouble::into_error)
            .with_context(doing)?;
        let found = found.into_iter().next().with_context(doing)?;
        let uefi = found.boot_mode().is_some_and(|mode| mode.as_str().starts_with("uefi"));
        let uefi_data = match uefi {
            true => insist(effort(), || self.api.uefi_data(copy))
                .await
                .map_err(Trouble::into_error)
                .with_context(doing)?,
            false => None,
        };
        let shape = Inherited::of(&found, uefi_data);
        let root = shape.root().and_then(|root| root.ebs.as_ref()?.snapshot_id.clone());
        let root = root.with_context(doing)?;
        let spec = ImageSpec {
            name: name.clone(),
            unnumbered: None,
            description: self.image.description.clone(),
            tags: self.tags(),
            arch: self.image.arch,
            size: 0,
            shape,
            collision: Collision::Fail,
        };
        let look = || async {
            let found = self.named(name).await?.filter(|image: &Image| self.is_copy(image));
            Ok(found.and_then(|image| image.image_id))
        };
        let lookup = || search(effort(), self.ec2.settings.lookup, look);
        // EC2 may know the name of what was deregistered for a moment yet.
        let call = || async {
            match self.api.register_image(&root, &spec).await {
                Err(trouble) if trouble.is(&["InvalidAMIName.Duplicate"]) => Err(trouble.early()),
                made => made,
            }
        };
        let image =
            insist_looking(effort(), call, lookup).await.map_err(Trouble::into_error).with_context(doing)?;
        self.available(&image, Sort::Image, self.ec2.settings.image).await?;
        Ok(image)
    }

    async fn let_go(&self, image: &str, with_snapshots: bool) -> Result<()> {
        let never = Stop::default();
        let effort = self.ec2.effort(Some(&never));
        let gone = match with_snapshots {
            // EC2 keeps those that another image uses.
            true => insist(effort, || self.api.deregister_with_snapshots(image)).await.map(drop),
            false => insist(effort, || self.api.deregister_image(image)).await,
        };
        gone.map_err(Trouble::into_error)
            .with_context(|| format!("deregistering {image} in {}", self.api.region))
    }
}
