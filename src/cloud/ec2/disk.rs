//! A bake's disk: a volume made of the base's snapshot, attached to this instance, and let go again.

use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Ec2;
use super::api::filter;
use super::attach_volume::{name_is_refused, name_is_taken};
use super::create_volume::NewVolume;
use super::detach_volume::Detaching;
use super::device_names::{self, DeviceName};
use super::explain::Trouble;
use super::retry::{insist, insist_looking, search};
use super::watch::{Attached, Patience, Seen, Sort, Verdict};
use crate::cloud::DiskHandle;
use crate::error::{Failure, Kind};
use crate::journal::{Journal, Standing, Thing};
use crate::plan::{BaseFacts, DiskPlan, Given, Locator};
use crate::stop::Stop;

/// The tag that a volume is found by while only its client token is known: DescribeVolumes has no filter for
/// the token itself.
pub(super) const TOKEN_TAG: &str = "bakehouse:token";

impl Ec2 {
    pub(super) async fn new_disk(
        &self,
        plan: &DiskPlan,
        base: &BaseFacts,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<DiskHandle> {
        if let Some(Given::Volume { id, attached }) = &base.given {
            return self.given_disk(id, attached.as_deref(), journal, stop).await;
        }
        let place = self.where_am_i().await?;
        let zone = place.zone.as_deref().context("finding the builder's zone")?;
        let mut tags = plan.tags.clone();
        tags.insert(TOKEN_TAG.to_owned(), plan.token.clone());
        let new = NewVolume {
            zone,
            snapshot: plan.scratch.is_none().then_some(base.snapshot.as_str()),
            size: plan.size,
            spec: &plan.spec,
            token: &plan.token,
            tags: &tags,
        };
        stop.check()?;
        let entry =
            journal.intend(Thing::Volume { region: self.api.region.clone(), token: plan.token.clone() })?;
        let making = insist(self.effort(Some(stop)), || self.api.create_volume(&new)).await;
        let volume = self.noted(journal, entry, making).with_context(|| match new.snapshot {
            Some(snapshot) => format!("creating a volume of {snapshot} in {zone}"),
            None => format!("creating a blank volume in {zone}"),
        })?;
        let patience = self.patience(self.settings.volume);
        let available = self.watcher.wait(Sort::Volume, &volume, patience, |seen| match seen.state.as_str() {
            "available" | "in-use" => Verdict::Done,
            "error" | "deleting" | "deleted" => Verdict::Failed(
                Failure::new(Kind::Cloud, format!("volume {volume} of {} went to {}", base.snapshot, seen.state)).hint(
                    match &plan.spec.kms_key {
                        Some(key) => format!("EC2 says no more; the usual cause is that there is no key {key} here, or that these credentials may not use it"),
                        None => "EC2 says no more; the usual cause is a KMS key of the snapshot that these credentials may not use".to_owned(),
                    },
                ),
            ),
            other => Verdict::Wait(other.to_owned()),
        });
        stop.race(available).await.with_context(|| format!("waiting for volume {volume} to be available"))?;
        self.seen(&volume);
        let device_name = self
            .attach(&volume, &place.builder, journal, stop)
            .await
            .with_context(|| format!("attaching {volume} to {}", place.builder))?;
        Ok(DiskHandle { id: volume.clone(), locator: Locator::Volume { id: volume, device_name } })
    }

    /// Attaches a volume at the first name that neither EC2 nor another bake of this host has in use.
    pub(super) async fn attach(
        &self,
        volume: &str,
        instance: &str,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<String> {
        let here = vec![filter("attachment.instance-id", instance)];
        let volumes = insist(self.effort(Some(stop)), || self.api.describe_volumes(here.clone()))
            .await
            .map_err(Trouble::into_error)
            .context("listing this instance's volumes")?;
        let used: Vec<_> = volumes
            .iter()
            .flat_map(|(_, seen)| &seen.attached)
            .filter(|attached| attached.instance == instance)
            .map(|attached| attached.device.as_str())
            .collect();
        for name in device_names::free(used.into_iter()) {
            let Some(lock) = DeviceName::lock(&self.settings.device_locks, &name)? else { continue };
            if self.attach_as(volume, instance, &name, journal, stop).await? {
                self.hold(volume, lock);
                return self.attached(volume, instance, stop).await.map(|()| name);
            }
            tracing::debug!(volume, name, "the device name is taken: trying the next");
        }
        Err(Failure::new(Kind::Host, format!("no device name is free on {instance}"))
            .hint("detach volumes that are not needed, or bake less at once")
            .into())
    }

    /// Whether the name was free.
    async fn attach_as(
        &self,
        volume: &str,
        instance: &str,
        name: &str,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<bool> {
        stop.check()?;
        let entry = journal.intend(Thing::Attachment {
            region: self.api.region.clone(),
            volume: volume.to_owned(),
            instance: instance.to_owned(),
            device: name.to_owned(),
        })?;
        let call = || self.api.attach_volume(volume, instance, name);
        let attaching = insist_looking(self.effort(Some(stop)), call, || async move {
            let ours = self.attachment(volume, instance).await?;
            Ok(ours.filter(|device| device == name).map(drop))
        });
        match attaching.await {
            Ok(()) => {}
            // The answer to a second try whose first one went through: the wait will see it attached.
            Err(trouble) if trouble.unsure && trouble.is(&["VolumeInUse", "IncorrectState"]) => {}
            Err(trouble) if name_is_taken(&trouble) || name_is_refused(&trouble) => {
                journal.gone(entry)?;
                return Ok(false);
            }
            Err(trouble) => {
                if never_came_to_be(&trouble) {
                    journal.gone(entry)?;
                }
                return Err(trouble.into_error()).with_context(|| format!("attaching {volume} as {name}"));
            }
        }
        journal.made(entry, volume)?;
        Ok(true)
    }

    /// The device name under which a volume is attached to an instance, or about to be.
    async fn attachment(&self, volume: &str, instance: &str) -> Result<Option<String>, Trouble> {
        let volumes = self.api.describe_volumes(vec![filter("volume-id", volume)]).await?;
        let mut attached = volumes.into_iter().flat_map(|(_, seen)| seen.attached);
        Ok(attached
            .find(|one| one.instance == instance && matches!(one.state.as_str(), "attaching" | "attached"))
            .map(|one| one.device))
    }

    async fn attached(&self, volume: &str, instance: &str, stop: &Stop) -> Result<()> {
        let patience = self.patience(self.settings.attachment);
        let waiting = self.watcher.wait(Sort::Volume, volume, patience, |seen| {
            let ours = seen.attached.iter().find(|one| one.instance == instance);
            match (seen.state.as_str(), ours.map(|one| one.state.as_str())) {
                ("in-use", Some("attached")) => Verdict::Done,
                ("error" | "deleting" | "deleted", _) => Verdict::Failed(Failure::new(
                    Kind::Cloud,
                    format!("volume {volume} went to {}", seen.state),
                )),
                _ => Verdict::Wait("attaching".to_owned()),
            }
        });
        stop.race(waiting).await.map(drop)
    }

    pub(super) async fn let_go(&self, disk: &DiskHandle, journal: &Journal) -> Result<()> {
        let volume = disk.id.as_str();
        let entries = journal.entries();
        let owned = |standing| matches!(standing, Standing::Intended | Standing::Made);
        let attachments =
            entries.iter().filter(|entry| owned(entry.standing)).filter_map(|entry| match &entry.thing {
                Thing::Attachment { volume: of, instance, device, .. } if of == volume => {
                    Some((entry.number, instance.as_str(), device.as_str()))
                }
                _ => None,
            });
        for (number, instance, device) in attachments {
            self.detach(volume, instance, Some(device)).await?;
            journal.gone(number)?;
        }
        // Only what this bake made is deleted: another volume is the user's.
        let made = |entry: &&crate::journal::Entry| {
            matches!(entry.thing, Thing::Volume { .. }) && entry.made.as_deref() == Some(volume)
        };
        for entry in entries.iter().filter(|entry| owned(entry.standing)).filter(made) {
            self.delete(volume).await?;
            journal.gone(entry.number)?;
        }
        Ok(())
    }

    /// Detaches a volume and waits until the instance has let go of it. Not attached, or gone, is no error; nor that
    /// it is attached under another name than `device`: then that is somebody else's doing.
    pub(super) async fn detach(&self, volume: &str, instance: &str, device: Option<&str>) -> Result<()> {
        let doing = || format!("detaching {volume} from {instance}");
        let call = || self.api.detach_volume(volume, instance, device);
        // One refused while the volume was still being attached is asked for once more when it is.
        for is_last in [false, true] {
            let asked =
                insist(self.effort(None), call).await.map_err(Trouble::into_error).with_context(doing)?;
            if asked == Detaching::Gone {
                break;
            }
            let ask_again = asked == Detaching::Not && !is_last;
            let usual = self.patience(self.settings.attachment);
            let first = if asked == Detaching::Begun { usual.first } else { Duration::ZERO };
            let patience = Patience { first, visible: self.settings.lookup, ..usual };
            let waiting = self.watcher.wait(Sort::Volume, volume, patience, |seen| {
                match state_at(seen, instance, device) {
                    None => Verdict::Done,
                    Some("attached") if ask_again => Verdict::Done,
                    Some(state) => Verdict::Wait(state.to_owned()),
                }
            });
            if state_at(&waiting.await.with_context(doing)?, instance, device).is_none() {
                break;
            }
        }
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(volume);
        Ok(())
    }

    /// Deletes a volume, detached first from whatever holds it. Gone already is no error.
    pub(super) async fn delete(&self, volume: &str) -> Result<()> {
        let doing = || format!("deleting volume {volume}");
        let call = || self.api.delete_volume(volume);
        match insist(self.effort(None), call).await {
            Ok(()) => return Ok(()),
            // Neither is one that is still being made deleted, nor one that is being deleted.
            Err(trouble) if trouble.is(&["VolumeInUse", "IncorrectState"]) => {}
            Err(trouble) => return Err(trouble.into_error()).with_context(doing),
        }
        let this = vec![filter("volume-id", volume)];
        let made = search(self.effort(None), self.settings.volume, || async {
            let volumes = self.api.describe_volumes(this.clone()).await?;
            Ok(volumes.iter().all(|(_, seen)| seen.state != "creating").then_some(()))
        });
        made.await.map_err(Trouble::into_error).with_context(doing)?;
        let volumes = insist(self.effort(None), || self.api.describe_volumes(this.clone()))
            .await
            .map_err(Trouble::into_error)
            .with_context(doing)?;
        if volumes.iter().any(|(_, seen)| matches!(seen.state.as_str(), "deleting" | "deleted")) {
            return Ok(());
        }
        for attached in volumes.iter().flat_map(|(_, seen)| &seen.attached) {
            self.detach(volume, &attached.instance, None).await?;
        }
        insist(self.effort(None), call).await.map_err(Trouble::into_error).with_context(doing)
    }

    fn hold(&self, volume: &str, lock: DeviceName) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(volume.to_owned(), lock);
    }
}

/// The state of a volume's attachment to an instance, under a name where one is given, while there is one.
fn state_at<'a>(seen: &'a Seen, instance: &str, device: Option<&str>) -> Option<&'a str> {
    let is_named = |one: &&Attached| device.is_none_or(|device| one.device == device);
    let mut here = seen.attached.iter().filter(|one| one.instance == instance && one.state != "detached");
    let ours = here.find(is_named);
    ours.map(|ours| ours.state.as_str())
}

/// Whether a call that failed surely had no effect.
pub(super) fn never_came_to_be(trouble: &Trouble) -> bool {
    !trouble.unsure
}
