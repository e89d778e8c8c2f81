//! From a closed disk to an image: the snapshot and its registration.

use anyhow::{Context as _, Result};

use super::Ec2;
use super::api::{filter, tags};
use super::disk::never_came_to_be;
use super::explain::Trouble;
use super::inherited::Inherited;
use super::retry::{insist, insist_looking, search};
use super::watch::{Patience, Seen, Sort, Verdict};
use crate::cloud::{DiskHandle, ImageSpec, SnapshotSpec};
use crate::error::{Failure, Kind};
use crate::journal::{Journal, Standing, Thing};
use crate::plan::{BakeId, BaseFacts};
use crate::recipe::Collision;
use crate::stop::Stop;

pub(super) use crate::cloud::shelf::BAKE_TAG;

/// An image to be registered.
#[derive(Clone, Copy)]
pub(super) struct Registration<'a> {
    /// What its root is.
    pub snapshot: &'a str,
    pub spec: &'a ImageSpec,
    /// What its base says of itself.
    pub base: &'a Inherited,
    pub journal: &'a Journal,
}

pub(super) fn bake_of(tags: &std::collections::BTreeMap<String, String>) -> Result<BakeId> {
    let bake =
        tags.get(BAKE_TAG).with_context(|| format!("finding the tag {BAKE_TAG} among those planned"))?;
    Ok(BakeId(bake.clone()))
}

impl Ec2 {
    pub(super) async fn snapshot(
        &self,
        disk: &DiskHandle,
        spec: &SnapshotSpec,
        journal: &Journal,
    ) -> Result<String> {
        let bake = bake_of(&spec.tags)?;
        let entry = journal.intend(Thing::Snapshot {
            region: self.api.region.clone(),
            volume: disk.id.clone(),
            bake: bake.clone(),
        })?;
        let call = || self.api.create_snapshot(&disk.id, spec);
        let of = &bake;
        let making = insist_looking(self.effort(None), call, || async move {
            let found = search(self.effort(None), self.settings.lookup, || self.snapshots_of(&disk.id, of));
            Ok(found.await?.and_then(|ids| ids.into_iter().next()))
        });
        self.noted(journal, entry, making.await).with_context(|| format!("capturing {}", disk.id))
    }

    /// The snapshots of a volume that a bake made; none is `None`.
    pub(super) async fn snapshots_of(
        &self,
        volume: &str,
        bake: &BakeId,
    ) -> Result<Option<Vec<String>>, Trouble> {
        let filters = vec![filter("volume-id", volume), filter(&format!("tag:{BAKE_TAG}"), &bake.0)];
        let found = self.api.own_snapshots(filters).await?;
        let ids: Vec<_> = found.into_iter().map(|snapshot| snapshot.id).collect();
        Ok(Some(ids).filter(|ids| !ids.is_empty()))
    }

    pub(super) async fn completed(
        &self,
        snapshot: &str,
        stop: &Stop,
        progress: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<()> {
        let patience =
            Patience { first: self.settings.first_snapshot, ..self.patience(self.settings.snapshot) };
        let mut told = None;
        let waiting = self.watcher.wait(Sort::Snapshot, snapshot, patience, |seen| {
            if seen.progress.is_some() && seen.progress != told {
                told.clone_from(&seen.progress);
                progress(told.as_deref().unwrap_or_default());
            }
            snapshot_verdict(snapshot, seen)
        });
        stop.race(waiting).await.with_context(|| format!("waiting for {snapshot} to be complete"))?;
        self.seen(snapshot);
        Ok(())
    }

    pub(super) async fn new_image(
        &self,
        snapshot: &str,
        spec: &ImageSpec,
        base: &BaseFacts,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<String> {
        let base: Inherited =
            serde_json::from_value(base.inherited.clone()).context("reading what the base says of itself")?;
        let new = Registration { snapshot, spec, base: &base, journal };
        let (image, entry) = match (self.finished_before(spec, journal, stop).await?, spec.collision) {
            (Some(made), _) => made,
            (None, Collision::Replace { delete_snapshots }) => {
                self.replacing(&new, delete_snapshots, stop).await?
            }
            (None, Collision::Fail | Collision::Suffix) => {
                self.registered(&new, self.image_thing(spec)?, stop).await?
            }
        };
        self.keep(journal, entry, snapshot)?;
        Ok(image)
    }

    /// The image, and its entry, of a bake that is gone on with and had come so far before: it was available and compared
    /// with its base, so that nothing of it is made anew, waited for or undone.
    async fn finished_before(
        &self,
        spec: &ImageSpec,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<Option<(String, u32)>> {
        let Some(entry) = journal.kept_image() else { return Ok(None) };
        let bake = bake_of(&spec.tags)?;
        let look = || self.image_registered(&spec.name, &bake);
        let looking = async {
            let found = search(self.effort(None), self.settings.visible, look).await;
            found.map_err(Trouble::into_error)
        };
        let found = stop.race(looking).await.with_context(|| format!("looking for the {entry} of {bake}"))?;
        if let Some(image) = found.and_then(|image| image.image_id) {
            return Ok(Some((image, entry.number)));
        }
        journal.gone(entry.number)?;
        let message = format!("the {entry}, which {bake} had registered, is not there any more");
        Err(Failure::new(Kind::Cloud, message).hint("somebody else deregistered it: bake again").into())
    }

    /// The image that a bake registers, as its journal has it.
    pub(super) fn image_thing(&self, spec: &ImageSpec) -> Result<Thing> {
        let region = self.api.region.clone();
        Ok(Thing::Image { region, name: spec.name.clone(), bake: bake_of(&spec.tags)? })
    }

    /// Registers an image, which the journal has as `thing`, and waits until it is available; its id and its
    /// entry. One that would be billed otherwise than its base is deregistered.
    pub(super) async fn registered(
        &self,
        new: &Registration<'_>,
        thing: Thing,
        stop: &Stop,
    ) -> Result<(String, u32)> {
        let Registration { snapshot, spec, base, journal } = *new;
        let doing = || format!("registering {snapshot} as the image {:?}", spec.name);
        let bake = bake_of(&spec.tags)?;
        stop.check()?;
        // One announced before, by a bake that died and is resumed, may have been registered.
        let announced = journal
            .entries()
            .into_iter()
            .find(|entry| entry.thing == thing && entry.standing != Standing::Gone);
        let entry = match &announced {
            Some(entry) => entry.number,
            None => journal.intend(thing)?,
        };
        let call = || self.api.register_image(snapshot, spec);
        let image =
            || async { Ok(self.image_registered(&spec.name, &bake).await?.and_then(|image| image.image_id)) };
        let look = || search(self.effort(None), self.settings.lookup, image);
        let is_announced = announced.is_some();
        let earlier = match announced {
            Some(_) => look().await.map_err(Trouble::into_error).with_context(doing)?,
            None => None,
        };
        let mut making = match earlier {
            Some(image) => Ok(image),
            None => insist_looking(self.effort(Some(stop)), call, look).await,
        };
        if let Err(trouble) = &mut making {
            // What a bake that died had called may have had its effect too.
            trouble.unsure |= is_announced;
            if trouble.unsure && trouble.is(&["InvalidAMIName.Duplicate"]) {
                match self.holder_seen(&spec.name, journal, stop).await.with_context(doing)? {
                    Some(image) if is_of(&image, &bake) => making = Ok(image.image_id.unwrap_or_default()),
                    // The name is one image's alone: then this bake's never came to be.
                    Some(_) => trouble.unsure = false,
                    None => {}
                }
            }
        }
        let image = self.noted(journal, entry, making).with_context(doing)?;
        let patience = self.patience(self.settings.image);
        let waiting = self.watcher.wait(Sort::Image, &image, patience, |seen| image_verdict(&image, seen));
        let seen =
            stop.race(waiting).await.with_context(|| format!("waiting for {image} to be available"))?;
        self.seen(&image);
        if let Some(failure) = billed_otherwise(&image, base, &seen) {
            self.deregister(&image).await?;
            journal.gone(entry)?;
            return Err(failure.into());
        }
        Ok((image, entry))
    }

    /// The snapshot and its image are the bake's result from here on. The image first: what has that one line is
    /// finished, and a snapshot that an image uses cannot be lost.
    fn keep(&self, journal: &Journal, image: u32, snapshot: &str) -> Result<()> {
        journal.kept(image)?;
        for entry in journal.entries() {
            let ours = matches!(entry.thing, Thing::Snapshot { .. })
                && entry.standing == Standing::Made
                && entry.made.as_deref() == Some(snapshot);
            if ours {
                journal.kept(entry.number)?;
            }
        }
        Ok(())
    }

    /// This account's image of a name.
    pub(super) async fn own_image(&self, name: &str) -> Result<Option<aws_sdk_ec2::types::Image>, Trouble> {
        let images = self.api.own_images(vec![filter("name", name)]).await?;
        // The filter takes wildcards; no image's name holds one, but a name that is asked for may.
        Ok(images.into_iter().find(|image| image.name() == Some(name)))
    }

    /// The image that has a name which was refused as taken, once it is seen: that may take as long as for any other thing
    /// just made. None where it is not, and whose it is stays open. One that the journal's bake replaces, and that is
    /// shown for a while yet, has it no more.
    async fn holder_seen(
        &self,
        name: &str,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<Option<aws_sdk_ec2::types::Image>> {
        let entries = journal.entries();
        let is_replaced = |id: Option<&str>| {
            entries
                .iter()
                .any(|entry| matches!(&entry.thing, Thing::Replaced { image, .. } if Some(&**image) == id))
        };
        let look = || async {
            let holder = self.own_image(name).await?;
            Ok(holder.filter(|holder| !is_replaced(holder.image_id())))
        };
        let looking = async {
            let seen = search(self.effort(None), self.settings.visible, look).await;
            seen.map_err(Trouble::into_error)
        };
        stop.race(looking).await
    }

    /// The image of a name, if that bake registered it.
    pub(super) async fn image_registered(
        &self,
        name: &str,
        bake: &BakeId,
    ) -> Result<Option<aws_sdk_ec2::types::Image>, Trouble> {
        let image = self.own_image(name).await?;
        Ok(image.filter(|image| is_of(image, bake)))
    }

    pub(super) async fn deregister(&self, image: &str) -> Result<()> {
        insist(self.effort(None), || self.api.deregister_image(image))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("deregistering {image}"))
    }

    /// Notes in the journal how a call went: made, or surely not.
    pub(super) fn noted(
        &self,
        journal: &Journal,
        entry: u32,
        made: Result<String, Trouble>,
    ) -> Result<String> {
        match made {
            Ok(id) => {
                journal.made(entry, &id)?;
                Ok(id)
            }
            Err(trouble) => {
                if never_came_to_be(&trouble) {
                    journal.gone(entry)?;
                }
                Err(trouble.into_error())
            }
        }
    }
}

/// Whether a bake registered an image.
pub(super) fn is_of(image: &aws_sdk_ec2::types::Image, bake: &BakeId) -> bool {
    tags(image.tags()).get(BAKE_TAG) == Some(&bake.0)
}

fn snapshot_verdict(snapshot: &str, seen: &Seen) -> Verdict {
    match seen.state.as_str() {
        "completed" => Verdict::Done,
        "error" => {
            let why = seen.reason.as_deref().unwrap_or("EC2 gives no reason");
            Verdict::Failed(
                Failure::new(Kind::Capture, format!("snapshot {snapshot} failed: {why}"))
                    .hint("bake again; if it says KMS, allow these credentials the volume's key"),
            )
        }
        state => Verdict::Wait(match &seen.progress {
            Some(progress) => format!("{state} ({progress})"),
            None => state.to_owned(),
        }),
    }
}

pub(super) fn image_verdict(image: &str, seen: &Seen) -> Verdict {
    match seen.state.as_str() {
        "available" => Verdict::Done,
        state @ ("failed" | "error" | "invalid" | "deregistered") => {
            let why = seen.reason.as_deref().unwrap_or("EC2 gives no reason");
            Verdict::Failed(
                Failure::new(Kind::Capture, format!("image {image} is {state}: {why}")).hint("bake again"),
            )
        }
        state => Verdict::Wait(state.to_owned()),
    }
}

/// A failure, where the image would be billed otherwise than its base: its billing codes, which come from the
/// snapshot, were lost or are others.
fn billed_otherwise(image: &str, base: &Inherited, seen: &Seen) -> Option<Failure> {
    let (platform, usage) = &seen.billing;
    for (what, was, is) in
        [("platform", &base.platform_details, platform), ("usage operation", &base.usage_operation, usage)]
    {
        if let Some(was) = was
            && Some(was) != is.as_ref()
        {
            let is = is.as_deref().unwrap_or("unknown");
            return Some(
                Failure::new(
                    Kind::Capture,
                    format!("image {image} would be billed as another {what} than its base: {is}, not {was}; it was deregistered"),
                )
                .hint("such a base (RHEL, SUSE, Marketplace, …) can be built upon only by launching it (aws ec2 create-image)"),
            );
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(platform: Option<&str>, usage: Option<&str>) -> Inherited {
        Inherited {
            platform_details: platform.map(str::to_owned),
            usage_operation: usage.map(str::to_owned),
            ..Inherited::default()
        }
    }

    fn billed(platform: &str, usage: &str) -> Seen {
        Seen { billing: (Some(platform.to_owned()), Some(usage.to_owned())), ..Seen::default() }
    }

    #[test]
    fn an_image_billed_as_its_base_is_good() {
        let linux = billed("Linux/UNIX", "RunInstances");
        assert!(billed_otherwise("ami-1", &base(Some("Linux/UNIX"), Some("RunInstances")), &linux).is_none());
        assert!(
            billed_otherwise("ami-1", &base(None, None), &linux).is_none(),
            "a bare snapshot says nothing"
        );
    }

    #[test]
    fn an_image_billed_otherwise_is_a_failed_capture() {
        let linux = billed("Linux/UNIX", "RunInstances");
        let rhel = base(Some("Red Hat Enterprise Linux"), Some("RunInstances:0010"));
        let failure = billed_otherwise("ami-1", &rhel, &linux).unwrap();
        assert_eq!(failure.kind, Kind::Capture);
        assert!(failure.message.contains("Linux/UNIX, not Red Hat"), "{}", failure.message);
    }

    #[test]
    fn final_states_end_the_wait() {
        let seen =
            |state: &str| Seen { state: state.to_owned(), reason: Some("KMS".into()), ..Seen::default() };
        assert!(matches!(snapshot_verdict("snap-1", &seen("completed")), Verdict::Done));
        assert!(matches!(snapshot_verdict("snap-1", &seen("pending")), Verdict::Wait(_)));
        let Verdict::Failed(failure) = snapshot_verdict("snap-1", &seen("error")) else { panic!() };
        assert_eq!(failure.message, "snapshot snap-1 failed: KMS");
        assert!(matches!(image_verdict("ami-1", &seen("available")), Verdict::Done));
        assert!(matches!(image_verdict("ami-1", &seen("pending")), Verdict::Wait(_)));
        assert!(matches!(image_verdict("ami-1", &seen("failed")), Verdict::Failed(_)));
    }
}
