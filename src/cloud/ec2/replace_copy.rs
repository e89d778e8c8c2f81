//! A copy that takes the place of the image that has its name in another Region.
//!
//! As at home (`replace.rs`) there is no rename, and a copy takes minutes, or hours: so it is made under a name of its
//! own, also where nobody has the name for now. Once it is complete all that can be refused of the new registration is
//! tried, and who has the name is asked anew, here and at home: where another image has replaced this one there, it is the
//! newer one here too. Only then does the old image go, an image of the copy's snapshots is registered under the name, and
//! the copy's own registration goes. Each step is found again by names and tags, so that another run of `publish` finishes
//! what one began, or goes along with it; from the old image's end until the new one has its name a request to stop is not
//! heard.

use anyhow::{Context as _, Result};
use aws_sdk_ec2::types::Image;

use super::api::filter;
use super::explain::Trouble;
use super::inherited::Inherited;
use super::publish::patience_for;
use super::region::{There, is_failed};
use super::replace::{ROUNDS, own_snapshots_of, snapshots_of};
use super::retry::{Effort, insist, insist_looking, jitter, search};
use super::shelf::protection;
use super::watch::Sort;
use crate::cloud::ImageSpec;
use crate::cloud::publish::{How, InRegion, Publishable};
use crate::error::{Failure, Kind};
use crate::plan::protected;
use crate::recipe::{Collision, CopySpec};
use crate::stop::Stop;

/// A copy that is complete, under a name of its own.
struct Aside {
    copy: Image,
    id: String,
    /// Its root's snapshot.
    root: String,
    /// What an image under the name is to be.
    spec: ImageSpec,
}

impl There<'_> {
    /// The copy under the image's name, available, in the place of an image that has that; none where nothing is to be
    /// made.
    ///
    /// # Errors
    /// [`Kind::Name`] where the image that has the name is protected, and where another image has replaced this one at
    /// home meanwhile: then its copy goes, for nobody would finish it. Those of EC2.
    pub(super) async fn copy_in_place(
        &self,
        spec: &CopySpec,
        delete_snapshots: bool,
        report: &mut InRegion,
    ) -> Result<Option<String>> {
        let provisional = Publishable { name: format!("copy-of-{}", self.image.id), ..self.image.clone() };
        let aside = self.ec2.there(self.api.clone(), &provisional, self.how);
        let mut error = match self.in_place(&aside, spec, delete_snapshots, report).await {
            Err(error) if self.how.act && self.how.stop.check().is_ok() => error,
            ended => return ended,
        };
        if !report.superseded {
            // Who replaced it there was in its way here too, or may have been.
            let Ok(Some(now)) = self.replaced_at_home().await else { return Err(error) };
            error = error.context(self.superseded(&now, report));
        }
        report.image = None;
        let left = match aside.holder(&provisional.name).await?.filter(|found| self.is_copy(found)) {
            Some(copy) => self.let_go(copy.image_id().unwrap_or_default(), &snapshots_of(&copy)).await?,
            None => None,
        };
        report.failures.extend(left);
        Err(error)
    }

    async fn in_place(
        &self,
        aside: &There<'_>,
        spec: &CopySpec,
        delete_snapshots: bool,
        report: &mut InRegion,
    ) -> Result<Option<String>> {
        let name = &self.image.name;
        let old = match self.holder(name).await? {
            Some(own) if self.is_copy(&own) && is_failed(&own) => {
                let id = own.image_id().unwrap_or_default();
                if !self.how.act {
                    report.missing.push(format!("deregister {id}, a copy that failed"));
                    return Ok(None);
                }
                self.forget_failed_copy(id).await?;
                None
            }
            Some(own) if self.is_copy(&own) => {
                let begun = aside.holder(&aside.image.name).await?.filter(|found| self.is_copy(found));
                return self.has_its_name(&own, begun.as_ref(), spec, report).await;
            }
            old => old,
        };
        self.replaceable(old.as_ref())?;
        if !self.how.act {
            let old = old.and_then(|old| old.image_id);
            report.missing.extend(old.map(|old| format!("take the place of {old}, which has its name")));
            return Ok(None);
        }
        let copied = match self.made_aside(aside, spec, report).await {
            Ok(Some(copied)) => copied,
            Ok(None) => return Ok(None),
            // Another run for the same image may have come further, and have let go of the copy.
            Err(error) if self.how.stop.check().is_ok() => {
                return match self.holder(name).await {
                    Ok(Some(own)) if self.is_copy(&own) => self.has_its_name(&own, None, spec, report).await,
                    _ => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let never = Stop::default();
        let unstopped = How { stop: &never, ..*self.how };
        let unstopped = self.ec2.there(self.api.clone(), self.image, &unstopped);
        let mut gone: Vec<String> = Vec::new();
        let mut round = 1;
        let image = loop {
            let here = if gone.is_empty() { self } else { &unstopped };
            // The copy may have taken hours.
            let old = match here.holder(name).await? {
                Some(own) if self.is_copy(&own) && !is_failed(&own) => {
                    return self.has_its_name(&own, Some(&copied.copy), spec, report).await;
                }
                // A Describe call may show one that was deregistered for a while yet.
                old => old.filter(|old| !gone.iter().any(|gone| old.image_id() == Some(gone))),
            };
            here.replaceable(old.as_ref())?;
            if let Some(now) = here.replaced_at_home().await? {
                return Err(self.superseded(&now, report).into());
            }
            let snapshots = match &old {
                Some(old) if delete_snapshots => own_snapshots_of(&self.api, here.effort(), old).await?,
                _ => Vec::new(),
            };
            here.how.stop.check()?;
            if let Some(old) = old.and_then(|old| old.image_id) {
                let stay = self.let_go(&old, &snapshots).await?;
                self.say(&format!("{old} had the name {name}: it is deregistered"));
                report.done.push(format!("take the place of {old}, which had its name"));
                report.failures.extend(stay);
                gone.push(old);
            }
            match unstopped.named_as_wanted(&copied).await {
                Ok(image) => break image,
                // Another image has taken it between two looks, or EC2 knows the name of what was deregistered for a
                // moment yet.
                Err(trouble) if trouble.is(&["InvalidAMIName.Duplicate"]) && round < ROUNDS => {
                    round += 1;
                    tokio::time::sleep(jitter(round + 1)).await;
                }
                Err(trouble) => {
                    return Err(trouble.into_error()).with_context(|| {
                        format!("giving {} in {} the name {name:?}", copied.id, self.api.region)
                    });
                }
            }
        };
        report.image = Some(image.clone());
        self.available(&image, Sort::Image, self.ec2.settings.image, &never).await?;
        report.failures.extend(self.let_go(&copied.id, &[]).await?);
        Ok(Some(image))
    }

    /// The copy under the name of its own, found or made, complete, and known to be one that can be given the name.
    async fn made_aside(
        &self,
        aside: &There<'_>,
        spec: &CopySpec,
        report: &mut InRegion,
    ) -> Result<Option<Aside>> {
        let Some(copy) = aside.copy(spec, report).await? else { return Ok(None) };
        let made = self.prepared(copy).await?;
        // As long as the old image has the name EC2 may refuse that: so it is asked with one that nobody has.
        let unnamed = ImageSpec { name: format!("{}-again", aside.image.name), ..made.spec.clone() };
        insist(self.effort(), || self.api.may_register_image(&made.root, &unnamed))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| {
                let (copy, region, name) = (&made.id, &self.api.region, &self.image.name);
                format!("asking whether {copy} in {region} may be given the name {name:?}")
            })?;
        Ok(Some(made))
    }

    /// The copy that has the image's name already. One that was made aside is not needed (any more): it goes, and its
    /// snapshots too, unless they are the named one's.
    async fn has_its_name(
        &self,
        own: &Image,
        aside: Option<&Image>,
        spec: &CopySpec,
        report: &mut InRegion,
    ) -> Result<Option<String>> {
        let id = own.image_id().unwrap_or_default().to_owned();
        report.image = Some(id.clone());
        if !self.how.act {
            return Ok(Some(id));
        }
        let limit = patience_for(spec, self.ec2.settings.copy);
        self.available(&id, Sort::Copy, limit, self.how.stop).await?;
        let Some(aside) = aside else { return Ok(Some(id)) };
        let own = snapshots_of(&self.seen(&id, self.effort()).await?);
        let rest = snapshots_of(aside);
        let shared = rest.iter().any(|snapshot| own.contains(snapshot));
        let rest = if shared { Vec::new() } else { rest };
        report.failures.extend(self.let_go(aside.image_id().unwrap_or_default(), &rest).await?);
        Ok(Some(id))
    }

    /// Where another image has taken this one's place at home, or this one is gone there: which has its name now, in
    /// words.
    async fn replaced_at_home(&self) -> Result<Option<String>> {
        let (own, home) = (self.image, &self.ec2.api);
        let named = || async {
            let images = home.own_images(vec![filter("name", &own.name)]).await?;
            let images = images.into_iter().filter(|image| image.name() == Some(&own.name));
            let standing = images.filter(|image| !is_failed(image) && !is_deregistered(image));
            let ids: Vec<_> = standing.filter_map(|image| image.image_id).collect();
            Ok(Some(ids).filter(|ids| !ids.is_empty()))
        };
        let found = search(self.effort(), self.ec2.settings.lookup, named)
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("looking for the image named {:?} in {}", own.name, home.region))?;
        let Some(ids) = found else {
            return Ok(Some(format!("nobody has the name {} in {} any more", own.name, home.region)));
        };
        let other = ids.into_iter().find(|id| *id != own.id);
        Ok(other.map(|other| format!("{other} has the name {} in {} now", own.name, home.region)))
    }

    fn superseded(&self, now: &str, report: &mut InRegion) -> Failure {
        report.superseded = true;
        let message = format!(
            "{} is replaced: {now}, so it takes nobody's place in {}",
            self.image.id, self.api.region
        );
        Failure::new(Kind::Name, message)
    }

    fn replaceable(&self, old: Option<&Image>) -> Result<()> {
        let Some((old, how)) = old.and_then(|old| Some((old, protection(old)?))) else { return Ok(()) };
        let old = old.image_id().unwrap_or_default();
        Err(protected(&self.image.name, old, Some(&self.api.region), how).into())
    }

    async fn seen(&self, image: &str, effort: Effort<'_>) -> Result<Image> {
        let doing = || format!("looking at {image} in {}", self.api.region);
        let found = insist(effort, || self.api.own_images(vec![filter("image-id", image)]))
            .await
            .map_err(Trouble::into_error)
            .with_context(doing)?;
        found.into_iter().next().with_context(doing)
    }

    async fn prepared(&self, id: String) -> Result<Aside> {
        let copy = self.seen(&id, self.effort()).await?;
        let doing = || format!("asking what {id} in {} is", self.api.region);
        let uefi = copy.boot_mode().is_some_and(|mode| mode.as_str().starts_with("uefi"));
        let uefi_data = match uefi {
            true => insist(self.effort(), || self.api.uefi_data(&id))
                .await
                .map_err(Trouble::into_error)
                .with_context(doing)?,
            false => None,
        };
        let shape = Inherited::of(&copy, uefi_data);
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
        Ok(Aside { copy, id, root, spec })
    }

    /// Registers an image under the name, of what a copy is.
    async fn named_as_wanted(&self, copied: &Aside) -> Result<String, Trouble> {
        let Aside { root, spec, .. } = copied;
        let look = || async {
            let found = self.named(&spec.name).await?.filter(|image| self.is_copy(image));
            Ok(found.and_then(|image| image.image_id))
        };
        let lookup = || search(self.effort(), self.ec2.settings.lookup, look);
        insist_looking(self.effort(), || self.api.register_image(root, spec), lookup).await
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

fn is_deregistered(image: &Image) -> bool {
    image.state().is_some_and(|state| state.as_str() == "deregistered")
}
