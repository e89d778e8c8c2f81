//! A volume of the user's that is baked in place: found, attached where it is not, captured, and left as it was
//! attached before. It is never deleted, and no tag of a bake is put on it.

use anyhow::{Context as _, Result};

use super::Ec2;
use super::api::filter;
use super::base::{assumed, unsupported};
use super::capture::BAKE_TAG;
use super::describe_volumes::VolumeSeen;
use super::device_names::letters;
use super::disk::TOKEN_TAG;
use super::explain::Trouble;
use super::inherited::{Inherited, bytes};
use super::retry::insist;
use crate::cloud::DiskHandle;
use crate::error::{Failure, Kind};
use crate::journal::Journal;
use crate::plan::{Arch, BaseFacts, DeviceFacts, Given, Locator};
use crate::stop::Stop;

impl Ec2 {
    /// A volume of the user's as a base.
    pub(super) async fn base_by_volume(
        &self,
        id: &str,
        arch: Option<&str>,
        root_device: Option<&str>,
    ) -> Result<BaseFacts> {
        let volume = insist(self.effort(None), || self.api.whole_volumes(vec![filter("volume-id", id)]))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("finding the base's volume {id}"))?;
        let volume = volume.into_iter().next().ok_or_else(|| {
            Failure::new(Kind::Base, format!("no such volume in {}: {id}", self.api.region))
                .hint("see that the id and the Region are right")
        })?;
        let place = self.where_am_i().await?;
        let attached = usable(&volume, &place.builder, place.zone.as_deref())?;
        let said = arch.unwrap_or(place.arch.as_str());
        let mut notes = assumed("volume", arch, root_device);
        notes.insert(
            0,
            "it is baked in place, and stays yours: the bake changes its content, and never deletes it"
                .to_owned(),
        );
        if attached.is_none() {
            notes.insert(1, "it is attached for the bake, and detached afterwards".to_owned());
        }
        let arch = Arch::parse(said).ok_or_else(|| unsupported(id, said))?;
        let root_device = root_device.unwrap_or("/dev/xvda");
        let inherited = Inherited::of_volume(arch.as_str(), root_device, &volume);
        Ok(BaseFacts {
            image: None,
            name: None,
            snapshot: id.to_owned(),
            given: Some(Given::Volume { id: id.to_owned(), attached }),
            size: bytes(volume.size),
            arch,
            created: Some(volume.seen.created.clone()).filter(|created| !created.is_empty()),
            deprecated: None,
            version: volume.seen.tags.get("appversion").cloned(),
            tags: volume.seen.tags.clone(),
            root_device: root_device.to_owned(),
            inherited: serde_json::to_value(&inherited).context("noting what the base says of itself")?,
            notes,
        })
    }

    /// The volume behind a device of this instance.
    pub(super) async fn base_by_device(
        &self,
        device: &DeviceFacts,
        arch: Option<&str>,
        root_device: Option<&str>,
    ) -> Result<BaseFacts> {
        let path = device.path.display();
        if device.is_file {
            return Err(Failure::new(Kind::Base, format!("{path} is a file, and EC2 bakes on volumes")).hint(
                "bake with --cloud local, or bring it to EC2 as a snapshot first (aws ec2 import-snapshot)",
            )
            .into());
        }
        let place = self.where_am_i().await?;
        let here = vec![filter("attachment.instance-id", &place.builder)];
        let volumes = insist(self.effort(None), || self.api.whole_volumes(here.clone()))
            .await
            .map_err(Trouble::into_error)
            .context("listing this instance's volumes")?;
        let volume = volumes.iter().find(|volume| is_behind(volume, device, &place.builder)).ok_or_else(|| {
            let whose = device.volume.as_deref().map(|id| format!(" (it says that it is {id})")).unwrap_or_default();
            Failure::new(Kind::Base, format!("no EBS volume of {} is behind {path}{whose}", place.builder))
                .hint("name an EBS volume's device, or the volume itself (volume = \"vol-…\"): lsblk -o NAME,SERIAL tells; instance stores have no snapshots")
        })?;
        let mut facts = self.base_by_volume(&volume.id, arch, root_device).await?;
        facts.notes.insert(0, format!("{} is behind {path}", volume.id));
        Ok(facts)
    }

    /// The user's volume as a bake's disk: attached where it is not attached here already.
    pub(super) async fn given_disk(
        &self,
        id: &str,
        attached: Option<&str>,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<DiskHandle> {
        let device_name = match attached {
            Some(name) => name.to_owned(),
            None => {
                let builder = &self.where_am_i().await?.builder;
                self.attach(id, builder, journal, stop)
                    .await
                    .with_context(|| format!("attaching {id} to {builder}"))?
            }
        };
        Ok(DiskHandle { id: id.to_owned(), locator: Locator::Volume { id: id.to_owned(), device_name } })
    }
}

/// Under which name a volume that can be baked in place is attached to the builder, where it is.
fn usable(volume: &VolumeSeen, builder: &str, zone: Option<&str>) -> Result<Option<String>, Failure> {
    let (id, seen) = (&volume.id, &volume.seen);
    let refuse =
        |why: String, hint: &str| Err(Failure::new(Kind::Base, format!("the volume {id} {why}")).hint(hint));
    if let Some(bake) = seen.tags.get(BAKE_TAG).or_else(|| seen.tags.get(TOKEN_TAG)) {
        return refuse(
            format!("is no volume of yours, but {bake}'s: `bakehouse gc --yes` deletes it"),
            "make a snapshot of it, and bake on that",
        );
    }
    if zone.is_some_and(|zone| zone != volume.zone) {
        return refuse(
            format!("is in {}, and this builder in {}", volume.zone, zone.unwrap_or_default()),
            "bake on a builder in its zone, or make a snapshot of it and bake on that",
        );
    }
    let attachments = || seen.attached.iter().filter(|one| one.state != "detached");
    if let Some(other) = attachments().find(|one| one.instance != builder) {
        return refuse(
            format!("is attached to {} as {}", other.instance, other.device),
            "detach it there, or make a snapshot of it and bake on that",
        );
    }
    match (seen.state.as_str(), attachments().next()) {
        ("available", None) => Ok(None),
        ("in-use", Some(one)) if one.state == "attached" => Ok(Some(one.device.clone())),
        (state, one) => {
            let state = one.map_or(state, |one| one.state.as_str());
            refuse(format!("is {state}"), "wait until it is available or attached here, then try again")
        }
    }
}

/// Whether a device is a volume: by the id that it tells, or by the name asked for at attachment where it tells none
/// (Xen: `/dev/xvdf` for `/dev/sdf`).
fn is_behind(volume: &VolumeSeen, device: &DeviceFacts, builder: &str) -> bool {
    match &device.volume {
        Some(id) => *id == volume.id,
        None => {
            let mut attached = volume.seen.attached.iter().filter(|one| one.instance == builder);
            attached.any(|one| device.names.iter().any(|name| is_same_name(&one.device, name)))
        }
    }
}

fn is_same_name(asked: &str, name: &str) -> bool {
    let is_disk = name.starts_with("sd") || name.starts_with("xvd");
    is_disk && letters(asked) == letters(name)
}

#[cfg(test)]
mod tests {
    use super::super::watch::{Attached, Seen};
    use super::*;

    fn volume(state: &str, attached: &[(&str, &str)]) -> VolumeSeen {
        let attached = attached.iter().map(|(instance, state)| Attached {
            instance: (*instance).into(),
            device: "/dev/sdf".into(),
            state: (*state).into(),
        });
        VolumeSeen {
            id: "vol-1".into(),
            zone: "eu-west-1b".into(),
            seen: Seen { state: state.into(), attached: attached.collect(), ..Seen::default() },
            ..VolumeSeen::default()
        }
    }

    fn told(volume: &VolumeSeen) -> String {
        match usable(volume, "i-1", Some("eu-west-1b")) {
            Ok(attached) => format!("{attached:?}"),
            Err(failure) => failure.message,
        }
    }

    #[test]
    fn a_volume_is_taken_free_or_where_it_is_attached_here() {
        assert_eq!(told(&volume("available", &[])), "None");
        assert_eq!(told(&volume("in-use", &[("i-1", "attached")])), "Some(\"/dev/sdf\")");
        assert_eq!(told(&volume("available", &[("i-2", "detached")])), "None");
    }

    #[test]
    fn a_volume_that_is_anothers_or_under_way_is_refused() {
        let elsewhere = volume("in-use", &[("i-1", "attached"), ("i-2", "attached")]);
        assert_eq!(told(&elsewhere), "the volume vol-1 is attached to i-2 as /dev/sdf");
        assert_eq!(told(&volume("in-use", &[("i-1", "detaching")])), "the volume vol-1 is detaching");
        assert_eq!(told(&volume("creating", &[])), "the volume vol-1 is creating");
        let mut other = volume("available", &[]);
        other.zone = "eu-west-1a".into();
        assert_eq!(told(&other), "the volume vol-1 is in eu-west-1a, and this builder in eu-west-1b");
        let mut ours = volume("available", &[]);
        ours.seen.tags.insert(BAKE_TAG.into(), "bake-1".into());
        assert!(told(&ours).contains("bake-1's: `bakehouse gc --yes` deletes it"), "{}", told(&ours));
    }

    #[test]
    fn a_device_is_the_volume_that_it_says_or_that_was_attached_under_its_name() {
        let attached = volume("in-use", &[("i-1", "attached")]);
        let device = |volume: Option<&str>, name: &str| DeviceFacts {
            path: "/dev/x".into(),
            is_file: false,
            size: 1,
            volume: volume.map(str::to_owned),
            names: vec![name.to_owned()],
        };
        assert!(is_behind(&attached, &device(Some("vol-1"), "nvme1n1"), "i-1"));
        assert!(!is_behind(&attached, &device(Some("vol-2"), "xvdf"), "i-1"), "what it says counts");
        assert!(is_behind(&attached, &device(None, "xvdf"), "i-1"));
        assert!(!is_behind(&attached, &device(None, "xvdf"), "i-2"));
        assert!(!is_behind(&attached, &device(None, "nvme1n1"), "i-1"));
    }
}
