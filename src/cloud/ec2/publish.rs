//! Publishing: in every Region at once, each with its own clients and its own watcher, what is there is read and
//! what is missing is made. Names and tags find what an earlier run made, so a second run changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_ec2::types::Image;
use jiff::{SignedDuration, Timestamp};

use super::Ec2;
use super::api::{Api, filter, tags};
use super::explain::Trouble;
use super::region::There;
use super::retry::insist;
use super::shelf::protection;
use super::watch::{RealClock, Watcher};
use crate::cloud::publish::{Change, Grantee, InRegion};
use crate::cloud::publish::{How, Present, Publishable, Published, Wanted, changes, tags_for_parameters};
use crate::error::{Failure, Kind, failure_of};
use crate::plan::{Arch, Publishing, describe_copy, name_taken, protected};
use crate::recipe::{Collision, CopySpec, Targets};

impl Ec2 {
    /// An image of this account, by its id or name.
    pub(super) async fn own_publishable(&self, image: &str) -> Result<Publishable> {
        let name = if image.starts_with("ami-") { "image-id" } else { "name" };
        let found = insist(self.effort(None), || self.api.own_images(vec![filter(name, image)]))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("looking for the image {image}"))?;
        let found = found.into_iter().find(|found| [found.image_id(), found.name()].contains(&Some(image)));
        let missing = || {
            Failure::new(Kind::Usage, format!("this account has no image {image} in {}", self.api.region))
                .hint("see `bakehouse images`; an image is published from its own Region (AWS_REGION), by its owner")
        };
        let found = found.ok_or_else(missing)?;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let arch = found.architecture().map(|arch| arch.as_str().to_owned()).unwrap_or_default();
        Ok(Publishable {
            id: text(found.image_id()),
            region: self.api.region.clone(),
            name: text(found.name()),
            description: text(found.description()),
            arch: Arch::parse(&arch)
                .with_context(|| format!("reading the architecture {arch:?} of {image}"))?,
            created: text(found.creation_date())
                .parse()
                .with_context(|| format!("reading the creation date of {image}"))?,
            tags: tags(found.tags()),
        })
    }

    /// # Errors
    /// [`Kind::Recipe`] where a Region is none, or none of this account; [`Kind::Name`] where the name is taken there.
    pub(super) async fn can_publish(&self, targets: &Targets, name: Option<&str>) -> Result<()> {
        let copies: Vec<_> = targets.copies.iter().filter(|copy| copy.region != self.api.region).collect();
        if copies.is_empty() {
            return Ok(());
        }
        let known = insist(self.effort(None), || self.api.all_regions())
            .await
            .map_err(Trouble::into_error)
            .context("asking which Regions there are")?;
        for copy in &copies {
            let region = &copy.region;
            let failure = match known.get(region) {
                Some(true) => continue,
                Some(false) => Failure::new(
                    Kind::Recipe,
                    format!("[publish] copies to {region}, which this account has not opted in to"),
                )
                .hint(format!(
                    "enable it (aws account enable-region --region-name {region}), or leave it out"
                )),
                None => {
                    Failure::new(Kind::Recipe, format!("[publish] copies to {region}, which is no Region"))
                        .hint(format!("there are {}", known.keys().cloned().collect::<Vec<_>>().join(", ")))
                }
            };
            return Err(failure.into());
        }
        let Some(name) = name else { return Ok(()) };
        for (region, taken) in self.holders_elsewhere(&targets.copies, name).await? {
            let id = taken.image_id().unwrap_or_default();
            match (targets.collision, protection(&taken)) {
                (Collision::Replace { .. }, None) => {}
                (Collision::Replace { .. }, Some(how)) => {
                    return Err(protected(name, id, Some(&region), how).into());
                }
                _ => return Err(name_taken(name, &format!("{id} in {region}")).into()),
            }
        }
        Ok(())
    }

    /// The images that have a name in the Regions that copies go to.
    pub(super) async fn holders_elsewhere(
        &self,
        copies: &[CopySpec],
        name: &str,
    ) -> Result<Vec<(String, Image)>> {
        let copies = copies.iter().filter(|copy| copy.region != self.api.region);
        let looks = copies.map(|copy| {
            let look = async {
                let api = self.regions.api(&copy.region);
                let images = insist(self.effort(None), || api.own_images(vec![filter("name", name)]))
                    .await
                    .map_err(Trouble::into_error)
                    .with_context(|| format!("looking for an image named {name:?} in {}", copy.region))?;
                let taken = images.into_iter().find(|image| image.name() == Some(name));
                Ok(taken.map(|image| (copy.region.clone(), image)))
            };
            Box::pin(look) as Pin<Box<dyn Future<Output = Result<Option<_>>> + Send + '_>>
        });
        let found = all_at_once(looks.collect()).await.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Publishes in every Region at once; failures are told in what is returned.
    pub(super) async fn publish_everywhere(
        &self,
        image: &Publishable,
        publishing: &Publishing,
        how: &How<'_>,
    ) -> Published {
        let copies = publishing.targets.copies.iter().filter(|copy| copy.region != image.region);
        let regions = std::iter::once(None).chain(copies.map(Some));
        let all = regions.map(|copy| {
            let one = async move {
                let region = copy.map_or(&image.region, |copy| &copy.region);
                let there = self.there(self.regions.api(region), image, how);
                (region.clone(), self.in_region(&there, copy, publishing, how).await)
            };
            Box::pin(one) as Pin<Box<dyn Future<Output = _> + Send + '_>>
        });
        Published { regions: all_at_once(all.collect()).await.into_iter().collect() }
    }

    pub(super) fn there<'a>(&'a self, api: Api, image: &'a Publishable, how: &'a How<'a>) -> There<'a> {
        let watcher = Watcher::new(Box::new(api.clone()), Box::new(RealClock::default()));
        There { api, watcher, ec2: self, image, how }
    }

    async fn in_region(
        &self,
        there: &There<'_>,
        copy: Option<&CopySpec>,
        publishing: &Publishing,
        how: &How<'_>,
    ) -> InRegion {
        let mut report = InRegion::default();
        let wanted = wanted(there.image, publishing);
        let found = match copy {
            None => there.source(how.act).await.map(Some),
            Some(copy) => match publishing.targets.collision {
                Collision::Replace { delete_snapshots } => {
                    there.copy_in_place(copy, delete_snapshots, &mut report).await
                }
                Collision::Fail | Collision::Suffix => there.copy(copy, &mut report).await,
            },
        };
        let image = match found {
            Ok(Some(image)) => image,
            other => {
                if let Err(error) = other {
                    report.failures.push(told(&error));
                }
                // All that is to come once it is there.
                report.missing.extend(copy.map(|copy| format!("copy it {}", describe_copy(copy))));
                let snapshots = BTreeMap::from([("its snapshots".to_owned(), BTreeSet::new())]);
                let nothing = Present { snapshots, ..Present::default() };
                report.missing.extend(words(&changes(&wanted, &nothing, Timestamp::now())));
                return report;
            }
        };
        report.image = Some(image.clone());
        if let Err(error) = self.change_there(there, &wanted, &image, &mut report).await {
            report.failures.push(told(&error));
            if report.missing.is_empty() {
                report.missing.push("what could not even be asked for".to_owned());
            }
        }
        report
    }

    async fn change_there(
        &self,
        there: &There<'_>,
        wanted: &Wanted<'_>,
        image: &str,
        report: &mut InRegion,
    ) -> Result<()> {
        if !wanted.is_any() {
            return Ok(());
        }
        let present = there.look(image, wanted).await?;
        report.snapshots = present.snapshots.keys().cloned().collect();
        // What is left over of a replaced image is told, and holds nothing up.
        let before = report.failures.len();
        let mut left = BTreeSet::new();
        for change in changes(wanted, &present, Timestamp::now()) {
            let text = change.to_string();
            // A parameter must not lead to an image that those who follow it cannot launch.
            let is_held = change.is_last() && report.failures.len() > before;
            if is_held || !there.how.act {
                report.missing.push(text);
                continue;
            }
            // Its tags are the later image's too.
            if change.parameter().is_some_and(|name| left.contains(name)) {
                continue;
            }
            let made = match there.later_in(&change).await {
                Ok(None) => there.make(&change, image, wanted).await,
                Ok(Some(later)) => {
                    let name = change.parameter().unwrap_or_default().to_owned();
                    there.say(&format!(
                        "the parameter {name} says {later}, which a later bake made: it is left"
                    ));
                    left.insert(name);
                    continue;
                }
                Err(error) => Err(error),
            };
            match made {
                Ok(()) => {
                    there.say(&text);
                    report.done.push(text);
                }
                Err(error) => {
                    report.failures.push(told(&error));
                    report.missing.push(text);
                }
            }
        }
        Ok(())
    }
}

fn wanted<'a>(image: &Publishable, publishing: &'a Publishing) -> Wanted<'a> {
    let targets = &publishing.targets;
    let after = targets.deprecate_after.and_then(|after| i64::try_from(after).ok());
    let deprecate_at =
        after.and_then(|after| image.created.checked_add(SignedDuration::from_secs(after)).ok());
    Wanted {
        share: &targets.share,
        deprecate_at,
        protection: targets.protection,
        parameters: &publishing.parameters,
        parameter_tags: tags_for_parameters(&image.tags),
    }
}

fn words(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}

/// An error with what to do about it, in one line.
fn told(error: &anyhow::Error) -> String {
    match failure_of(error).and_then(|failure| failure.hint.as_deref()) {
        Some(hint) => format!("{error:#} ({hint})"),
        None => format!("{error:#}"),
    }
}

/// Why sharing was refused, with what only sharing is refused for.
pub(super) fn not_shared(trouble: Trouble, with: &[Grantee], region: &str) -> anyhow::Error {
    let hint = if trouble.is(&["OperationNotPermitted"]) && with.contains(&Grantee::Everybody) {
        format!(
            "this account may block public access to images in {region}: see aws ec2 get-image-block-public-access-state"
        )
    } else if trouble.is(&["InvalidParameter"]) && trouble.message.contains("key") {
        "what is encrypted with AWS's own default key can't be shared: give a `kms_key` of your own"
            .to_owned()
    } else {
        return trouble.into_error();
    };
    let message = format!("{} in {region}: {}", trouble.operation(), trouble.message);
    Failure::new(Kind::Publish, message).hint(hint).into()
}

/// How long a copy is waited for: a time-based one for an hour more than it was asked to take.
pub(super) fn patience_for(copy: &CopySpec, limit: Duration) -> Duration {
    let within = copy.within.map(|minutes| Duration::from_secs(u64::from(minutes) * 60 + 3600));
    within.unwrap_or_default().max(limit)
}

/// Drives futures side by side; their results in their order.
async fn all_at_once<'a, T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}
