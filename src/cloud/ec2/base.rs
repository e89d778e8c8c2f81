//! Finding the base: by id, by name, by an SSM parameter, or a bare snapshot.

use anyhow::{Context as _, Result};
use aws_sdk_ec2::types::{DeviceType, Image, ImageState, VirtualizationType};

use super::Ec2;
use super::api::{filter, tags};
use super::explain::Trouble;
use super::inherited::{Inherited, bytes};
use super::retry::insist;
use crate::error::{Failure, Kind};
use crate::plan::{Arch, BaseFacts};
use crate::recipe::BaseSelector;

impl Ec2 {
    pub(super) async fn base(&self, selector: &BaseSelector) -> Result<BaseFacts> {
        match selector {
            BaseSelector::Ami(id) => self.base_by_id(id).await,
            BaseSelector::Name { glob, owner, arch, newest } => {
                self.base_by_name(glob, owner.as_deref(), arch.as_deref(), *newest).await
            }
            BaseSelector::Parameter(name) => {
                let value = insist(self.effort(None), || self.api.get_parameter(name))
                    .await
                    .map_err(Trouble::into_error)
                    .with_context(|| format!("reading the SSM parameter {name}"))?;
                let id = image_in(&value).ok_or_else(|| {
                    Failure::new(
                        Kind::Base,
                        format!("the SSM parameter {name} holds no AMI id, but {value:?}"),
                    )
                    .hint("name a parameter whose value is an AMI id, or JSON with an `image_id`")
                })?;
                self.base_by_id(&id)
                    .await
                    .with_context(|| format!("using the image of the SSM parameter {name}"))
            }
            BaseSelector::Snapshot { id, arch, root_device } => {
                self.base_by_snapshot(id, arch.as_deref(), root_device.as_deref()).await
            }
            BaseSelector::Image(name) => Err(Failure::new(
                Kind::Base,
                format!("the base {name} is an image of the local store, not of EC2"),
            )
            .hint("bake with --cloud local, or name an AMI")
            .into()),
        }
    }

    async fn base_by_id(&self, id: &str) -> Result<BaseFacts> {
        let image = insist(self.effort(None), || self.api.describe_image(id))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("finding the base {id}"))?;
        let image = image.ok_or_else(|| {
            Failure::new(Kind::Base, format!("no such AMI in {}: {id}", self.api.region)).hint(
                "see that the id and the Region are right, and that the image is shared with this account",
            )
        })?;
        self.facts(&image).await
    }

    async fn base_by_name(
        &self,
        glob: &str,
        owner: Option<&str>,
        arch: Option<&str>,
        newest: bool,
    ) -> Result<BaseFacts> {
        let mut filters = vec![filter("name", glob), filter("state", "available")];
        if let Some(arch) = arch {
            filters.push(filter("architecture", arch));
        }
        // Without an owner only this account's: anybody may give a public image any name.
        let of = owner.unwrap_or("self");
        let images = insist(self.effort(None), || self.api.describe_images(of, filters.clone()))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("finding the base by the name {glob:?} of the owner {of}"))?;
        let now = jiff::Timestamp::now().to_string();
        let image = choose(images, newest, &now).map_err(|names| match names.as_slice() {
            [] => {
                let what = arch.map(|arch| format!("{arch} ")).unwrap_or_default();
                let failure = Failure::new(
                    Kind::Base,
                    format!("no {what}AMI of the owner {of} in {} is named {glob:?}", self.api.region),
                );
                failure.hint(match owner {
                    Some(_) => "see that name, owner, architecture and Region are right; deprecated images are not taken",
                    None => "images of other accounts are taken only when `owner` says whose: an account's number, or `amazon`",
                })
            }
            names => Failure::new(
                Kind::Base,
                format!("{} AMIs are named {glob:?}, and newest is false: {}", names.len(), names.join(", ")),
            )
            .hint("name one by its id, make the name narrower, or let the newest be taken"),
        })?;
        self.facts(&image).await
    }

    async fn base_by_snapshot(
        &self,
        id: &str,
        arch: Option<&str>,
        root_device: Option<&str>,
    ) -> Result<BaseFacts> {
        let snapshot = insist(self.effort(None), || self.api.describe_snapshot(id))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("finding the base's snapshot {id}"))?;
        let snapshot = snapshot.ok_or_else(|| {
            Failure::new(Kind::Base, format!("no such snapshot in {}: {id}", self.api.region))
                .hint("see that the id and the Region are right")
        })?;
        if snapshot.seen.state != "completed" {
            let message = format!("the base's snapshot {id} is {}, not completed", snapshot.seen.state);
            return Err(Failure::new(Kind::Base, message).hint("wait until it is completed").into());
        }
        let said = arch.unwrap_or(std::env::consts::ARCH);
        let arch = Arch::parse(said).ok_or_else(|| unsupported(id, said))?;
        let root_device = root_device.unwrap_or("/dev/xvda");
        let inherited = Inherited::of_snapshot(arch.as_str(), root_device, id, snapshot.size);
        Ok(BaseFacts {
            image: None,
            name: None,
            snapshot: id.to_owned(),
            size: bytes(snapshot.size),
            arch,
            created: snapshot.started,
            version: snapshot.tags.get("appversion").cloned(),
            tags: snapshot.tags,
            root_device: root_device.to_owned(),
            inherited: serde_json::to_value(&inherited).context("noting what the base says of itself")?,
        })
    }

    async fn facts(&self, image: &Image) -> Result<BaseFacts> {
        let (snapshot, size, arch) = usable(image)?;
        let id = image.image_id().unwrap_or_default();
        // Only firmware with UEFI keeps variables; a BIOS image is not asked for them.
        let uefi = image.boot_mode().is_some_and(|mode| mode.as_str().starts_with("uefi"));
        let uefi_data = if uefi { self.uefi_data_of(id).await? } else { None };
        let inherited = Inherited::of(image, uefi_data);
        let tags = tags(image.tags());
        let name = image.name().map(str::to_owned);
        Ok(BaseFacts {
            image: Some(id.to_owned()),
            version: tags.get("appversion").cloned().or_else(|| name.clone()),
            name,
            snapshot,
            size,
            arch,
            created: image.creation_date().map(str::to_owned),
            tags,
            root_device: inherited.root_device_name.clone(),
            inherited: serde_json::to_value(&inherited).context("noting what the base says of itself")?,
        })
    }

    async fn uefi_data_of(&self, image: &str) -> Result<Option<String>> {
        match insist(self.effort(None), || self.api.uefi_data(image)).await {
            Ok(data) => Ok(data),
            // Only the owner of an image is told; there is no way to inherit what cannot be read.
            Err(trouble)
                if trouble.is(&["AuthFailure", "InvalidAMIID.NotFound", "InvalidAMIAttributeItemValue"]) =>
            {
                tracing::info!(image, "the base's UEFI variables are told to its owner only: not inherited");
                Ok(None)
            }
            Err(trouble) => {
                Err(trouble.into_error()).with_context(|| format!("reading the UEFI variables of {image}"))
            }
        }
    }
}

/// The image to take; else what was found, each as `id (name, date)`.
fn choose(images: Vec<Image>, newest: bool, now: &str) -> Result<Image, Vec<String>> {
    // An owner is shown its own deprecated images too. Both times are RFC 3339 in UTC: they sort as text.
    let deprecated = |image: &Image| image.deprecation_time().is_some_and(|at| at <= now);
    let mut images: Vec<_> = images.into_iter().filter(|image| !deprecated(image)).collect();
    images.sort_by(|a, b| (a.creation_date(), a.image_id()).cmp(&(b.creation_date(), b.image_id())));
    if images.len() > 1 && !newest {
        return Err(images.iter().rev().map(described).collect());
    }
    images.pop().ok_or_else(Vec::new)
}

fn described(image: &Image) -> String {
    format!(
        "{} ({}, {})",
        image.image_id().unwrap_or_default(),
        image.name().unwrap_or_default(),
        image.creation_date().unwrap_or_default()
    )
}

/// The root's snapshot, its size in bytes and the architecture of an image that can be a base.
fn usable(image: &Image) -> Result<(String, u64, Arch), Failure> {
    let id = image.image_id().unwrap_or_default();
    if let Some(state) = image.state().filter(|state| **state != ImageState::Available) {
        return Err(Failure::new(Kind::Base, format!("the base {id} is {}, not available", state.as_str()))
            .hint("wait until it is available, or take another"));
    }
    if image.root_device_type().is_some_and(|kind| *kind != DeviceType::Ebs) {
        return Err(Failure::new(
            Kind::Base,
            format!("the base {id} is not EBS: its root is on an instance store"),
        )
        .hint("take a base whose root is an EBS snapshot"));
    }
    if image.virtualization_type().is_some_and(|kind| *kind != VirtualizationType::Hvm) {
        return Err(Failure::new(Kind::Base, format!("the base {id} is paravirtual, not hvm"))
            .hint("take an hvm image: no current instance type runs a paravirtual one"));
    }
    let said = image.architecture().map_or("unknown", |arch| arch.as_str());
    let arch = Arch::parse(said).ok_or_else(|| unsupported(id, said))?;
    let root = image.root_device_name().unwrap_or_default();
    let mapping = image.block_device_mappings().iter().find(|mapping| mapping.device_name() == Some(root));
    let ebs = mapping.and_then(|mapping| mapping.ebs());
    let snapshot = ebs.and_then(|ebs| ebs.snapshot_id()).filter(|id| !id.is_empty());
    let Some(snapshot) = snapshot else {
        return Err(Failure::new(
            Kind::Base,
            format!("the base {id} is not EBS: its root {root:?} has no snapshot"),
        )
        .hint("take a base whose root is an EBS snapshot"));
    };
    let size = ebs.and_then(|ebs| ebs.volume_size()).and_then(|size| u64::try_from(size).ok());
    Ok((snapshot.to_owned(), bytes(size.unwrap_or_default()), arch))
}

fn unsupported(id: &str, arch: &str) -> Failure {
    Failure::new(Kind::Base, format!("the base {id} is of architecture {arch}, which is not supported"))
        .hint("take an x86_64 or arm64 image")
}

/// The AMI id of a parameter's value: the value itself, or `image_id` of JSON (as for ECS images).
fn image_in(value: &str) -> Option<String> {
    let value = value.trim();
    if value.starts_with("ami-") {
        return Some(value.to_owned());
    }
    let json: serde_json::Value = serde_json::from_str(value).ok()?;
    json.get("image_id")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::builders::ImageBuilder;
    use aws_sdk_ec2::types::{ArchitectureValues, BlockDeviceMapping, EbsBlockDevice};

    fn image(id: &str, created: &str) -> ImageBuilder {
        let ebs = EbsBlockDevice::builder().snapshot_id("snap-1").volume_size(4).build();
        Image::builder()
            .image_id(id)
            .name(format!("name-of-{id}"))
            .creation_date(created)
            .state(ImageState::Available)
            .root_device_type(DeviceType::Ebs)
            .root_device_name("/dev/sda1")
            .virtualization_type(VirtualizationType::Hvm)
            .architecture(ArchitectureValues::X8664)
            .block_device_mappings(BlockDeviceMapping::builder().device_name("/dev/sda1").ebs(ebs).build())
    }

    const NOW: &str = "2026-06-01T00:00:00Z";

    #[test]
    fn the_newest_that_is_not_deprecated_is_taken() {
        let images = || {
            vec![
                image("ami-2", "2026-02-01T00:00:00.000Z").build(),
                image("ami-3", "2026-03-01T00:00:00.000Z")
                    .deprecation_time("2026-05-01T00:00:00.000Z")
                    .build(),
                image("ami-1", "2026-01-01T00:00:00.000Z")
                    .deprecation_time("2028-05-01T00:00:00.000Z")
                    .build(),
            ]
        };
        assert_eq!(choose(images(), true, NOW).unwrap().image_id(), Some("ami-2"));
        let found = choose(images(), false, NOW).unwrap_err();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], "ami-2 (name-of-ami-2, 2026-02-01T00:00:00.000Z)");
        assert!(choose(Vec::new(), true, NOW).unwrap_err().is_empty());
    }

    #[test]
    fn a_usable_base_tells_its_root() {
        let (snapshot, size, arch) = usable(&image("ami-1", "").build()).unwrap();
        assert_eq!((snapshot.as_str(), size, arch), ("snap-1", 4 << 30, Arch::X86_64));
    }

    #[test]
    fn a_base_that_cannot_be_used_says_why() {
        for (image, why) in [
            (image("ami-1", "").root_device_type(DeviceType::InstanceStore), "not EBS"),
            (image("ami-1", "").root_device_name("/dev/xvda"), "not EBS"),
            (image("ami-1", "").state(ImageState::Pending), "pending"),
            (image("ami-1", "").architecture(ArchitectureValues::I386), "i386"),
            (image("ami-1", "").virtualization_type(VirtualizationType::Paravirtual), "paravirtual"),
        ] {
            let failure = usable(&image.build()).unwrap_err();
            assert!(failure.message.contains(why), "{}", failure.message);
            assert_eq!(failure.kind, Kind::Base);
        }
    }

    #[test]
    fn parameters_hold_an_id_or_json() {
        assert_eq!(image_in(" ami-1\n").as_deref(), Some("ami-1"));
        assert_eq!(image_in(r#"{"image_id":"ami-2","os":"x"}"#).as_deref(), Some("ami-2"));
        assert_eq!(image_in("hello"), None);
    }
}
