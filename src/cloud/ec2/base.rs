//! Finding the base: by id, by name, by an SSM parameter, or a bare snapshot.

use anyhow::{Context as _, Result};
use aws_sdk_ec2::types::{DeviceType, Filter, Image, ImageState, VirtualizationType};

use super::Ec2;
use super::api::{any_of, filter, tags};
use super::explain::Trouble;
use super::inherited::{Inherited, bytes};
use super::retry::insist;
use crate::error::{Failure, Kind};
use crate::plan::{Arch, BaseFacts};
use crate::recipe::{BaseSelector, ImageQuery, ScratchSpec};

impl Ec2 {
    pub(super) async fn base(&self, selector: &BaseSelector) -> Result<BaseFacts> {
        match selector {
            BaseSelector::Ami(id) => self.base_by_id(id).await,
            BaseSelector::Query(query) => self.base_by_query(query).await,
            BaseSelector::Parameter(name) => self.base_by_parameter(name).await,
            BaseSelector::Snapshot { id, arch, root_device } => {
                self.base_by_snapshot(id, arch.as_deref(), root_device.as_deref()).await
            }
            BaseSelector::Volume { id, arch, root_device } => {
                self.base_by_volume(id, arch.as_deref(), root_device.as_deref()).await
            }
            BaseSelector::Device { path, .. } => {
                Err(Failure::new(Kind::Internal, format!("the device {} was not looked at", path.display()))
                    .into())
            }
            BaseSelector::Scratch(spec) => blank(spec),
            BaseSelector::Image(name) => Err(Failure::new(
                Kind::Base,
                format!("the base {name} is an image of the local store, not of EC2"),
            )
            .hint("bake with --cloud local, or name an AMI")
            .into()),
        }
    }

    pub(super) async fn base_by_id(&self, id: &str) -> Result<BaseFacts> {
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

    async fn base_by_query(&self, query: &ImageQuery) -> Result<BaseFacts> {
        // Without an owner only this account's: anybody may give a public image any name.
        let own = ["self".to_owned()];
        let owners = if query.owners.is_empty() { own.as_slice() } else { &query.owners };
        let (filters, of) = (filters(query), owners.join(", "));
        let images = || self.api.describe_images(owners, filters.clone(), query.deprecated);
        let images = insist(self.effort(None), images)
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("finding the base, an AMI of {of} that {}", asked(query)))?;
        let now = jiff::Timestamp::now().to_string();
        let image = choose(images, query, &now).map_err(|found| match found {
            Unfit::None { deprecated } => {
                let failure = Failure::new(
                    Kind::Base,
                    format!("no AMI of the owner {of} in {} {}", self.api.region, asked(query)),
                );
                failure.hint(match (deprecated, query.owners.is_empty()) {
                    (Some(one), _) => format!("{one} is deprecated: deprecated = true (--deprecated) takes it all the same"),
                    (None, false) => "see that name, owner, architecture, filters and Region are right; deprecated images are \
                                      taken with deprecated = true (--deprecated) alone"
                        .to_owned(),
                    (None, true) => "images of other accounts are taken only when `owner` says whose: an account's number, or `amazon`"
                        .to_owned(),
                })
            }
            Unfit::Several(names) => Failure::new(
                Kind::Base,
                format!("{} AMIs match, each {}, and newest is false: {}", names.len(), asked(query), names.join(", ")),
            )
            .hint("name one by its id, make the query narrower, or let the newest be taken"),
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
        let notes = assumed("snapshot", arch, root_device);
        let said = arch.unwrap_or(std::env::consts::ARCH);
        let arch = Arch::parse(said).ok_or_else(|| unsupported(id, said))?;
        let root_device = root_device.unwrap_or("/dev/xvda");
        let inherited = Inherited::of_snapshot(arch.as_str(), root_device, id, snapshot.size);
        Ok(BaseFacts {
            image: None,
            name: None,
            snapshot: id.to_owned(),
            given: None,
            size: bytes(snapshot.size),
            arch,
            created: snapshot.started,
            deprecated: None,
            version: snapshot.tags.get("appversion").cloned(),
            tags: snapshot.tags,
            root_device: root_device.to_owned(),
            inherited: serde_json::to_value(&inherited).context("noting what the base says of itself")?,
            notes,
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
            given: None,
            size,
            arch,
            created: image.creation_date().map(str::to_owned),
            deprecated: image.deprecation_time().filter(|time| !time.is_empty()).map(str::to_owned),
            tags,
            root_device: inherited.root_device_name.clone(),
            inherited: serde_json::to_value(&inherited).context("noting what the base says of itself")?,
            notes: Vec::new(),
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

/// What is registered of a disk that began blank.
fn blank(spec: &ScratchSpec) -> Result<BaseFacts> {
    let said = spec.arch.as_deref().unwrap_or(std::env::consts::ARCH);
    let arch = Arch::parse(said).ok_or_else(|| unsupported("from scratch", said))?;
    let root_device = spec.root_device.as_deref().unwrap_or("/dev/xvda");
    let boot_mode = spec.boot_loader.then(|| spec.firmware(arch).boot_mode());
    let inherited = Inherited::of_scratch(arch.as_str(), root_device, boot_mode);
    let inherited = serde_json::to_value(&inherited).context("noting what the image is registered with")?;
    Ok(BaseFacts::scratch(spec, arch, root_device, inherited))
}

/// DescribeImages' filters for a query: available images alone.
fn filters(query: &ImageQuery) -> Vec<Filter> {
    let mut filters = vec![filter("state", "available")];
    filters.extend(query.name.as_ref().map(|name| filter("name", name)));
    filters.extend(query.arch.as_ref().map(|arch| filter("architecture", arch)));
    filters.extend(query.filters.iter().map(|(name, values)| any_of(name, values)));
    filters
}

/// What a query asks for, in words: `is named "x-*", x86_64, with tag:team web`.
fn asked(query: &ImageQuery) -> String {
    let mut parts = Vec::new();
    parts.extend(query.name.as_ref().map(|name| format!("is named {name:?}")));
    parts.extend(query.arch.clone().map(|arch| format!("is {arch}")));
    parts.extend(query.filters.iter().map(|(name, values)| format!("has {name} {}", values.join(" or "))));
    parts.join(", ")
}

/// Why no image is taken.
#[derive(Debug, PartialEq)]
enum Unfit {
    /// There is none; perhaps but for a deprecated one.
    None { deprecated: Option<String> },
    /// There are several, each as `id (name, date)`, newest first.
    Several(Vec<String>),
}

/// The image to take.
fn choose(images: Vec<Image>, query: &ImageQuery, now: &str) -> Result<Image, Unfit> {
    // An owner is shown its own deprecated images too. Both times are RFC 3339 in UTC: they sort as text.
    let deprecated = |image: &Image| image.deprecation_time().is_some_and(|at| at <= now);
    let (mut old, mut images): (Vec<_>, Vec<_>) =
        images.into_iter().partition(|image| !query.deprecated && deprecated(image));
    let age = |image: &Image| {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        (text(image.creation_date()), text(image.image_id()))
    };
    images.sort_by_cached_key(age);
    if images.len() > 1 && !query.newest {
        return Err(Unfit::Several(images.iter().rev().map(described).collect()));
    }
    images.pop().ok_or_else(|| {
        old.sort_by_cached_key(age);
        Unfit::None { deprecated: old.last().map(described) }
    })
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
        let hint = match state {
            ImageState::Disabled => {
                "its owner disabled it: take another, or let its owner enable it (aws ec2 enable-image)"
            }
            _ => "wait until it is available, or take another",
        };
        return Err(Failure::new(Kind::Base, format!("the base {id} is {}, not available", state.as_str()))
            .hint(hint));
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

/// What is taken for granted of a disk that says nothing of itself.
pub(super) fn assumed(what: &str, arch: Option<&str>, root_device: Option<&str>) -> Vec<String> {
    let mut assumed = Vec::new();
    if arch.is_none() {
        assumed.push("the builder's architecture");
    }
    if root_device.is_none() {
        assumed.push("the root device name /dev/xvda");
    }
    assumed.extend([
        "hvm",
        "ENA",
        "the instance type's own boot mode (UEFI on arm64, as a rule BIOS on x86_64)",
    ]);
    vec![format!("a {what} says nothing of itself, so this is assumed: {}", assumed.join(", "))]
}

pub(super) fn unsupported(id: &str, arch: &str) -> Failure {
    Failure::new(Kind::Base, format!("the base {id} is of architecture {arch}, which is not supported"))
        .hint("take an x86_64 or arm64 image")
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
        let query = ImageQuery::named("*");
        assert_eq!(choose(images(), &query, NOW).unwrap().image_id(), Some("ami-2"));
        let one = ImageQuery { newest: false, ..query.clone() };
        let Unfit::Several(found) = choose(images(), &one, NOW).unwrap_err() else { panic!() };
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], "ami-2 (name-of-ami-2, 2026-02-01T00:00:00.000Z)");
        assert_eq!(choose(Vec::new(), &query, NOW).unwrap_err(), Unfit::None { deprecated: None });

        let old = ImageQuery { deprecated: true, ..query.clone() };
        assert_eq!(choose(images(), &old, NOW).unwrap().image_id(), Some("ami-3"));
        let Unfit::None { deprecated } =
            choose(images().split_off(1)[..1].to_vec(), &query, NOW).unwrap_err()
        else {
            panic!()
        };
        assert!(deprecated.unwrap().starts_with("ami-3 "));
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
            (image("ami-1", "").state(ImageState::Disabled), "disabled"),
            (image("ami-1", "").architecture(ArchitectureValues::I386), "i386"),
            (image("ami-1", "").virtualization_type(VirtualizationType::Paravirtual), "paravirtual"),
        ] {
            let failure = usable(&image.build()).unwrap_err();
            assert!(failure.message.contains(why), "{}", failure.message);
            assert_eq!(failure.kind, Kind::Base);
        }
    }
}
