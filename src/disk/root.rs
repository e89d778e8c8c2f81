//! Which of a disk's filesystems is the root: found by what they hold, never by a number.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use super::fstab::{self, Entry};
use super::mount::{Look, errno_of};
use super::survey::{Area, Filesystem, Survey};
use crate::beneath;
use crate::error::{Failure, Kind};

/// The type GUIDs of root partitions, x86-64 and arm64 (the UAPI group's Discoverable Partitions Specification).
const ROOT_TYPES: [&str; 2] =
    ["4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"];
/// Labels that roots have by custom.
const ROOT_LABELS: [&str; 5] = ["cloudimg-rootfs", "root", "rootfs", "ROOT", "/"];
/// The inode of a Btrfs subvolume's top folder.
const SUBVOLUME_INODE: u64 = 256;

/// The root, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) area: Area,
    pub(super) filesystem: Filesystem,
    /// Mount options that decide what is seen: a Btrfs subvolume.
    pub(super) options: String,
    /// The image's fstab.
    pub(super) fstab: Vec<Entry>,
}

/// Finds the root; `number` overrides. `target` is a folder where candidates are mounted for a look.
pub(super) fn find(survey: &Survey, number: Option<u32>, device: &Path, target: &Path) -> Result<Root> {
    if let Some(number) = number {
        return named(survey, number, device, target);
    }
    let mut roots = Vec::new();
    let mut seen = Vec::new();
    let mut broken = Vec::new();
    for area in &survey.areas {
        let Some(filesystem) = area.filesystem() else {
            seen.push(area.to_string());
            continue;
        };
        match examine(area, filesystem, target) {
            Ok(Some(root)) => roots.push(root),
            Ok(None) => seen.push(format!("{area}: no /etc/os-release")),
            // A host that cannot mount it must say so; a candidate that is damaged may not be the root at all.
            Err(error) if crate::error::kind_of(&error) == Kind::Host => return Err(error),
            Err(error) => {
                seen.push(format!("{area}: {error:#}"));
                broken.push(damaged(error, area));
            }
        }
    }
    if roots.is_empty()
        && broken.len() == 1
        && let Some(error) = broken.pop()
    {
        return Err(error);
    }
    choose(roots, survey).map_err(|roots| match roots.as_slice() {
        [] => none_found(survey, device, &seen).into(),
        several => {
            let list = several.iter().map(|root| root.area.to_string()).collect::<Vec<_>>().join("; ");
            let numbers = several.iter().filter_map(|root| root.area.number).map(|number| number.to_string());
            Failure::new(Kind::Disk, format!("{} has more than one root: {list}", device.display()))
                .hint(format!("say which with --partition {}", numbers.collect::<Vec<_>>().join(" or ")))
                .into()
        }
    })
}

/// Says of an error that means damage that it does.
fn damaged(error: anyhow::Error, area: &Area) -> anyhow::Error {
    let known = crate::error::failure_of(&error).is_some();
    match errno_of(&error) {
        Some(Errno::EUCLEAN | Errno::EIO | Errno::EBADMSG | Errno::EINVAL) if !known => error.context(
            Failure::new(Kind::Disk, format!("{area} is damaged"))
                .hint("repair the base with its filesystem's fsck, or bake from another one"),
        ),
        _ => error,
    }
}

fn named(survey: &Survey, number: u32, device: &Path, target: &Path) -> Result<Root> {
    let Some(area) = survey.areas.iter().find(|area| area.number == Some(number)) else {
        let there = survey.areas.iter().map(Area::to_string).collect::<Vec<_>>().join("; ");
        let there = if there.is_empty() { "nothing".to_owned() } else { there };
        let message = format!("{} has no partition {number}; it has: {there}", device.display());
        return Err(Failure::new(Kind::Disk, message)
            .hint("correct --partition, or leave it out to have the root found")
            .into());
    };
    let Some(filesystem) = area.filesystem() else {
        return Err(Failure::new(Kind::Disk, format!("{area} cannot be a root")).hint(hint([area])).into());
    };
    if let Some(root) = examine(area, filesystem, target).map_err(|error| damaged(error, area))? {
        return Ok(root);
    }
    tracing::warn!("{area} holds no /etc/os-release; it is used as the root because --partition says so");
    Ok(Root { area: area.clone(), filesystem, options: String::new(), fstab: Vec::new() })
}

fn none_found(survey: &Survey, device: &Path, seen: &[String]) -> Failure {
    let device = device.display();
    if seen.is_empty() {
        return Failure::new(Kind::Disk, format!("{device} holds neither a partition nor a filesystem"))
            .hint("is it the right base? An empty volume cannot be baked on");
    }
    Failure::new(Kind::Disk, format!("no root filesystem on {device}: {}", seen.join("; ")))
        .hint(hint(&survey.areas))
}

/// What to do about areas of which none can be a root.
fn hint<'a>(areas: impl IntoIterator<Item = &'a Area>) -> String {
    let kinds: Vec<&str> = areas.into_iter().filter_map(|area| area.content.kind.as_deref()).collect();
    let text = if kinds.contains(&"crypto_LUKS") {
        "an encrypted root cannot be baked on; use a base without LUKS (EBS encrypts the whole volume instead)"
    } else if let Some(kind) = kinds.iter().find_map(|kind| kind.strip_prefix("LVM ")) {
        return format!(
            "a root on a logical volume is baked on where the volume is linear, without snapshots; this one is {kind}"
        );
    } else if kinds.contains(&"LVM2_member") {
        "no logical volume of this disk's LVM holds a root; use a base that has one, or a root on a partition"
    } else if kinds.contains(&"linux_raid_member") {
        "a root on a software RAID cannot be baked on; use a base whose root is a partition of its own"
    } else {
        "use a base with an ext4, XFS or Btrfs root, or name the partition with --partition N"
    };
    text.to_owned()
}

/// The one root, or all of them where none stands out.
fn choose(mut roots: Vec<Root>, survey: &Survey) -> std::result::Result<Root, Vec<Root>> {
    let mut scores: Vec<u32> = roots.iter().map(|root| score(root, survey)).collect();
    let best = (0..roots.len()).max_by_key(|index| scores.get(*index).copied());
    let Some(best) = best else { return Err(roots) };
    let own = scores.swap_remove(best);
    // A label alone is no proof: the copy of a root has the same.
    if scores.iter().all(|other| own >= other + 2) { Ok(roots.swap_remove(best)) } else { Err(roots) }
}

fn score(root: &Root, survey: &Survey) -> u32 {
    let is_root_type = root.area.type_id.as_deref().is_some_and(|id| ROOT_TYPES.contains(&id));
    let names_itself = fstab::root(&root.fstab).is_some_and(|entry| {
        let areas = fstab::resolve(&entry.source, survey, None);
        matches!(areas.as_slice(), [only] if only.node == root.area.node)
    });
    let is_labelled = root.area.content.label.as_deref().is_some_and(|label| ROOT_LABELS.contains(&label));
    2 * u32::from(is_root_type) + 2 * u32::from(names_itself) + u32::from(is_labelled)
}

/// Mounts a candidate read-only and looks whether it holds a root.
fn examine(area: &Area, filesystem: Filesystem, target: &Path) -> Result<Option<Root>> {
    let root = |options: String, fstab: Vec<Entry>| Root { area: area.clone(), filesystem, options, fstab };
    let look = Look::at(&area.node, target, filesystem, "")?;
    let found = holds_root(target)?;
    look.end()?;
    if let Some(fstab) = found {
        let options = fstab::root(&fstab).map(Entry::btrfs_options);
        let options =
            if filesystem == Filesystem::Btrfs { options.unwrap_or_default() } else { String::new() };
        return Ok(Some(root(options, fstab)));
    }
    if filesystem != Filesystem::Btrfs {
        return Ok(None);
    }
    let look = Look::at(&area.node, target, filesystem, "subvolid=5")?;
    let found = subvolumes(target)?;
    look.end()?;
    let mut own: Vec<&(String, Vec<Entry>)> = found
        .iter()
        .filter(|(name, fstab)| {
            let said = fstab::root(fstab).and_then(|entry| entry.value("subvol"));
            said.is_some_and(|said| said.trim_matches('/') == name)
        })
        .collect();
    if let ([], [only]) = (own.as_slice(), found.as_slice()) {
        own.push(only);
    }
    match own.as_slice() {
        [(name, fstab)] => {
            let said =
                fstab::root(fstab).map(Entry::btrfs_options).filter(|options| options.contains("subvol="));
            Ok(Some(root(said.unwrap_or_else(|| format!("subvol={name}")), fstab.clone())))
        }
        [] if found.is_empty() => Ok(None),
        _ => {
            let names = found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            Err(Failure::new(Kind::Disk, format!("its subvolumes {names} hold a root each"))
                .hint("say in the base which one is meant: btrfs subvolume set-default")
                .into())
        }
    }
}

/// The subvolumes at the top of a Btrfs that hold a root.
fn subvolumes(target: &Path) -> Result<Vec<(String, Vec<Entry>)>> {
    let reading = || format!("reading {}", target.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(target).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let metadata = entry.metadata().with_context(reading)?;
        // A name that is not UTF-8, or that would end the mount option, is none that an fstab can say.
        let Some(name) = entry.file_name().to_str().filter(|name| !name.contains(',')).map(str::to_owned)
        else {
            continue;
        };
        if metadata.is_dir()
            && metadata.ino() == SUBVOLUME_INODE
            && let Some(fstab) = holds_root(&entry.path())?
        {
            found.push((name, fstab));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// The fstab of the root at a folder (empty where there is none), or `None` where the folder holds no root.
pub(super) fn holds_root(folder: &Path) -> Result<Option<Vec<Entry>>> {
    let text = |path: &str| beneath::read_to_string(folder, Path::new(path));
    let fstab = text("etc/fstab")?.map(|text| fstab::parse(&text));
    let named = text("etc/os-release")?.is_some()
        || text("usr/lib/os-release")?.is_some()
        // With /usr on a partition of its own, the link in /etc leads nowhere as yet.
        || (fstab.is_some() && folder.join("etc/os-release").is_symlink() && !folder.join("etc").is_symlink());
    Ok(named.then(|| fstab.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::survey::tests::area;

    fn root(area: Area, fstab: &str) -> Root {
        Root { area, filesystem: Filesystem::Ext, options: String::new(), fstab: fstab::parse(fstab) }
    }

    fn chosen(roots: &[Root]) -> Option<u32> {
        let survey = Survey { table: None, areas: roots.iter().map(|root| root.area.clone()).collect() };
        choose(roots.to_vec(), &survey).ok().and_then(|root| root.area.number)
    }

    #[test]
    fn one_that_stands_out_is_the_root() {
        let plain = root(area(1, "ext4"), "");
        assert_eq!(chosen(std::slice::from_ref(&plain)), Some(1));
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[plain.clone(), root(area(2, "ext4"), "")]), None);
        let itself = root(area(2, "ext4"), "PARTUUID=ee9b7a91-02 / ext4");
        assert_eq!(chosen(&[plain.clone(), itself.clone()]), Some(2));
        assert_eq!(chosen(&[root(area(1, "ext4"), "PARTUUID=ee9b7a91-01 / ext4"), itself]), None);
        let mut typed = plain.clone();
        typed.area.number = Some(3);
        typed.area.type_id = Some(ROOT_TYPES[0].into());
        assert_eq!(chosen(&[plain.clone(), typed]), Some(3));
        let mut labelled = plain.clone();
        labelled.area.number = Some(4);
        labelled.area.content.label = Some("root".into());
        assert_eq!(chosen(&[plain, labelled]), None);
    }

    #[test]
    fn what_cannot_be_a_root_is_named() {
        let areas = vec![area(1, "LVM2_member"), area(2, "swap")];
        let seen: Vec<String> = areas.iter().map(Area::to_string).collect();
        let failure = none_found(&Survey { table: None, areas }, Path::new("/dev/x"), &seen);
        assert!(failure.message.contains("LVM physical volume") && failure.message.contains("swap"));
        assert!(failure.hint.unwrap().contains("LVM"));
    }
}
