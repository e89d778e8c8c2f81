//! A device or a raw disk's file of the user's that is baked in place: its content is copied into the store, and it
//! stays where and what it is.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

use super::{Store, copy, ids, place};
use crate::cloud::DiskHandle;
use crate::error::{Failure, Kind};
use crate::journal::{Journal, Thing};
use crate::plan::{Arch, BaseFacts, DeviceFacts, Given, Locator};
use crate::stop::Stop;
use crate::sys;

/// Bytes read at once of a device.
const CHUNK: usize = 4 << 20;
/// Bytes that stay a hole together where they are all zero.
const HOLE: usize = 64 << 10;

impl Store {
    /// A device or a file as a base.
    pub(super) fn device_as_base(
        &self,
        device: &DeviceFacts,
        arch: Option<&str>,
        root_device: Option<&str>,
    ) -> Result<BaseFacts> {
        let path = device.path.clone();
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        if path.starts_with(&folder) {
            let message =
                format!("{} is the local store's own, and would be changed in place", path.display());
            return Err(Failure::new(Kind::Base, message)
                .hint("name its image (image = \"NAME\"), or copy the file out of the store")
                .into());
        }
        let arch = match arch {
            Some(said) => Arch::parse(said).ok_or_else(|| {
                Failure::new(Kind::Base, format!("{said} is no architecture that Bakehouse knows"))
                    .hint("the architectures are x86_64 and arm64")
            })?,
            None => place::here()?.arch,
        };
        let what = if device.is_file { "file" } else { "device" };
        let given = match device.is_file {
            true => Given::File(path.clone()),
            false => Given::Device(path.clone()),
        };
        Ok(BaseFacts {
            image: None,
            name: None,
            snapshot: path.display().to_string(),
            given: Some(given),
            size: device.size,
            arch,
            created: None,
            deprecated: None,
            version: None,
            tags: Default::default(),
            root_device: root_device.unwrap_or("/dev/vda").to_owned(),
            inherited: serde_json::json!({ "boot_mode": null }),
            notes: vec![format!(
                "the {what} is baked in place, and stays yours: the bake changes its content, and copies it into the store"
            )],
        })
    }

    /// The user's device as a bake's disk: nothing is made, so nothing is journalled.
    pub(super) fn given_disk(&self, given: &Given) -> Result<DiskHandle> {
        let locator = match given {
            Given::File(path) => Locator::File(path.clone()),
            Given::Device(path) => Locator::Device(path.clone()),
            Given::Volume { id, .. } => anyhow::bail!("{id} is a volume, not a disk of this host"),
        };
        let (Locator::File(path) | Locator::Device(path)) = &locator else {
            anyhow::bail!("finding the disk's path")
        };
        Ok(DiskHandle { id: path.display().to_string(), locator })
    }

    /// The content of the user's device, copied into a disk of the store.
    pub(super) async fn copied(
        &self,
        from: &Path,
        journal: &Journal,
        stop: &Stop,
    ) -> Result<std::path::PathBuf> {
        let id = ids::new("disk")?;
        let path = self.disk_file(&id);
        let entry = journal.intend(Thing::StoreFile { path: path.clone() })?;
        let (source, target, stop) = (from.to_owned(), path.clone(), stop.clone());
        self.clone()
            .blocking(move |store| {
                let file = store.new_disk(&target)?;
                copy_into(&source, &file, &stop)
            })
            .await
            .with_context(|| format!("copying {} into the store", from.display()))?;
        journal.made(entry, &id)?;
        Ok(path)
    }
}

fn copy_into(source: &Path, target: &File, stop: &Stop) -> Result<()> {
    let from = File::open(source).with_context(|| format!("opening {}", source.display()))?;
    let metadata = from.metadata().with_context(|| format!("looking at {}", source.display()))?;
    if metadata.is_file() {
        // As whoever bakes it has it: another bake of it that begins now would be copied half. A device the disk's
        // room holds until this is over.
        let _held = Flock::lock(from, FlockArg::LockSharedNonblock).map_err(|(_, errno)| {
            Failure::new(Kind::Disk, format!("{} is in use by another process: {errno}", source.display()))
                .hint("let one bake of it end before another begins")
        })?;
        let copied = copy::copy(source, target, metadata.len(), stop)?;
        tracing::debug!("{} was copied into the store: {copied:?}", source.display());
        return Ok(());
    }
    let size = sys::device_size(from.as_fd()).context("asking for its size")?;
    copy::check_room(target, size, source)?;
    copy_but_zeroes(&from, target, size, stop)?;
    target.set_len(size).with_context(|| format!("growing the copy to {size} bytes"))
}

/// Copies what is not zero. A device tells no holes.
fn copy_but_zeroes(from: &File, to: &File, size: u64, stop: &Stop) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        stop.check()?;
        let count = match from.read_at(&mut buffer, at) {
            Ok(0) => anyhow::bail!("it ends at {at} of {size} bytes"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("reading at {at}")),
        };
        let read = buffer.get(..count).unwrap_or_default();
        for (number, part) in read.chunks(HOLE).enumerate() {
            if part.iter().any(|byte| *byte != 0) {
                let place = at + (number * HOLE) as u64;
                to.write_all_at(part, place).with_context(|| format!("writing at {place}"))?;
            }
        }
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_devices_zeroes_become_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        let from = File::create(&source).unwrap();
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"end", (9 << 20) - 3).unwrap();
        let to = File::create(&target).unwrap();
        let copy = |stop: &Stop| copy_but_zeroes(&File::open(&source).unwrap(), &to, 9 << 20, stop);
        copy(&Stop::default()).unwrap();
        assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
        let stop = Stop::default();
        stop.raise(libc::SIGTERM);
        assert_eq!(crate::error::exit_status(&copy(&stop).unwrap_err()), 143);
    }

    #[test]
    fn what_another_bake_works_on_is_not_copied_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("disk.raw");
        std::fs::write(&source, "content").unwrap();
        let copy = |name: &str| {
            let target = File::create(folder.path().join(name)).unwrap();
            copy_into(&source, &target, &Stop::default())
        };
        let held = Flock::lock(File::open(&source).unwrap(), FlockArg::LockExclusiveNonblock);
        assert!(copy("a").unwrap_err().to_string().contains("in use"));
        drop(held);
        copy("b").unwrap();
        assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"content");
    }
}
