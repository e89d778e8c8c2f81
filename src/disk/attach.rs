//! The road from a device to its mounted root: survey, find, grow, check, mount.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::stat::Mode;

use super::fstab::{self, Entry};
use super::lvm::Volumes;
use super::root::Root;
use super::survey::{Area, Filesystem, Survey};
use super::table::Label;
use super::{Device, MountOptions, check, grow, mount, mountinfo, root};
use crate::beneath;
use crate::error::{Failure, Kind};

/// What is mounted.
#[derive(Debug)]
pub(super) struct Attached {
    /// Where, resolved.
    pub(super) target: PathBuf,
    /// The partitions and logical volumes that are mounted, each once, the root first.
    pub(super) areas: Vec<Area>,
    /// The disk's logical volumes.
    pub(super) volumes: Volumes,
    /// The kind of its partition table.
    pub(super) label: Option<Label>,
}

/// Finds, grows, checks and mounts. On an error nothing stays mounted.
pub(super) fn attach(device: &mut Device, options: &MountOptions) -> Result<Attached> {
    let target = empty_folder(&options.target)?;
    let mut survey = device.survey()?;
    let mut volumes = Volumes::open(&survey)?;
    survey.areas.extend(volumes.areas().cloned());
    let mut root = root::find(&survey, options.partition, device.node(), &target)?;
    tracing::info!("the root is {}", root.area);
    if options.grow
        && let Some(grown) = volumes.grow(device.block(), survey.table.as_ref(), &root.area)?
    {
        survey.areas.retain(|area| area.volume.is_none());
        survey.areas.extend(volumes.areas().cloned());
        root.area = grown;
    }
    if options.grow
        && let Some(table) = &survey.table
    {
        grow::partition(device.block(), table, &root.area)?;
    }
    check::check(&root.area)?;
    if options.grow && grow::unmounted(root.filesystem) {
        grow::filesystem(&root.area, root.filesystem, size_now(device, &root.area)?, None)?;
    }
    mount_root(&root, &target)?;
    let mounted = complete(device, options, &survey, &root, &target);
    match mounted {
        Ok(areas) => {
            let label = survey.table.as_ref().map(|table| table.label);
            Ok(Attached { target, areas, volumes, label })
        }
        Err(error) => {
            super::report(mount::unmount_all(&target, true), "unmounting after a failure");
            Err(error)
        }
    }
}

fn empty_folder(target: &Path) -> Result<PathBuf> {
    let target = target.canonicalize().with_context(|| format!("resolving {}", target.display()))?;
    let mut entries = fs::read_dir(&target).with_context(|| format!("reading {}", target.display()))?;
    let occupied = entries.next().is_some() || mountinfo::own()?.iter().any(|mount| mount.point == target);
    if occupied {
        bail!("{} is not an empty folder", target.display());
    }
    Ok(target)
}

fn mount_root(root: &Root, target: &Path) -> Result<()> {
    mount::writable(&root.area.node, target, root.filesystem.name(), &root.options)?;
    let checked = mount::is_from(&root.area, target);
    if checked.is_err() {
        super::report(mount::unmount_all(target, true), "unmounting the wrong filesystem");
    }
    checked
}

/// An area's size in bytes, which may be larger than when it was surveyed.
fn size_now(device: &Device, area: &Area) -> Result<u64> {
    match area.number {
        None if area.volume.is_some() => Ok(area.length),
        None => device.block().size(),
        Some(number) => {
            let known = device.block().known()?.into_iter().find(|known| known.number == number);
            Ok(known.map_or(area.length, |known| known.length))
        }
    }
}

/// What follows once the root is mounted: its fstab's other filesystems, and its growth.
fn complete(
    device: &Device,
    options: &MountOptions,
    survey: &Survey,
    root: &Root,
    target: &Path,
) -> Result<Vec<Area>> {
    if options.grow {
        grow::filesystem(&root.area, root.filesystem, size_now(device, &root.area)?, Some(target))?;
    }
    // Read again: the look at it skipped the journal, in which a change of it may have waited.
    let fstab = root::holds_root(target)?.unwrap_or_default();
    let own = fstab::root(&fstab).map(|entry| entry.source.as_str()).zip(root.area.number);
    let mut areas = vec![Area { length: size_now(device, &root.area)?, ..root.area.clone() }];
    for entry in fstab::beneath_root(&fstab) {
        let area = match fstab::resolve(&entry.source, survey, own).as_slice() {
            [area] => *area,
            [] => {
                elsewhere(entry);
                continue;
            }
            _ => {
                tracing::warn!("{} means more than one partition and is not mounted", entry.source);
                continue;
            }
        };
        let point = entry.target.display();
        match mount_beneath(entry, area, target, areas.contains(area)) {
            Ok(()) if areas.contains(area) => {}
            Ok(()) => areas.push(area.clone()),
            Err(error) if bearable(entry, area, &error) => {
                tracing::warn!("the image's {point} is not mounted: {error:#}");
            }
            Err(error) => return Err(error).with_context(|| format!("mounting the image's {point}")),
        }
    }
    Ok(areas)
}

/// Says so where packages would miss what is not on this disk.
fn elsewhere(entry: &Entry) {
    let on_device = entry.source.contains('=') || entry.source.starts_with("/dev/");
    if on_device && !entry.has("nofail") {
        tracing::warn!(
            "the image mounts {} from {}, which is not on this disk: what is baked there will be hidden",
            entry.target.display(),
            entry.source
        );
    }
}

/// A builder whose kernel has no vfat can still bake what does not touch the EFI system partition.
fn bearable(entry: &Entry, area: &Area, error: &anyhow::Error) -> bool {
    let no_driver =
        mount::errno_of(error) == Some(Errno::ENODEV) && area.content.kind.as_deref() == Some("vfat");
    no_driver || entry.has("nofail")
}

fn mount_beneath(entry: &Entry, area: &Area, target: &Path, mounted_already: bool) -> Result<()> {
    let kind = area.content.kind.as_deref().unwrap_or_default();
    if kind.is_empty() {
        let message = format!("{area} is to be mounted at {}", entry.target.display());
        return Err(Failure::new(Kind::Disk, message).hint("correct the base's /etc/fstab").into());
    }
    if !mounted_already {
        check::check(area)?;
    }
    let folder = point(target, &entry.target)?;
    if beneath::handle(&folder).read_link().context("asking where a folder is")? == target {
        bail!("{} is the root itself", entry.target.display());
    }
    let filesystem = area.filesystem();
    let options = if filesystem == Some(Filesystem::Btrfs) { entry.btrfs_options() } else { String::new() };
    let kind = filesystem.map_or(kind, |filesystem| filesystem.name());
    mount::writable(&area.node, &beneath::handle(&folder), kind, &options)
}

/// Opens a mount point beneath the root, and makes it where it is missing, as systemd would at boot.
fn point(target: &Path, path: &Path) -> Result<OwnedFd> {
    if let Some(folder) = beneath::folder(target, path)? {
        return Ok(folder);
    }
    let mut reached = PathBuf::from("/");
    let mut parent = beneath::folder(target, &reached)?.context("opening the root")?;
    for component in path.components() {
        let name: &OsStr = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name,
            _ => bail!("{} is no place for a mount", path.display()),
        };
        reached.push(name);
        match nix::sys::stat::mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                return Err(errno).with_context(|| format!("making {} in the image", reached.display()));
            }
        }
        parent = beneath::folder(target, &reached)?
            .with_context(|| format!("{} in the image is not a folder", reached.display()))?;
    }
    Ok(parent)
}
