//! A disk's copy: shared blocks where the filesystem can, else only what holds data, with write-back begun as
//! the copy goes, so that the sync at the bake's end has little left to write.
//!
//! Beginning to write back takes the caller about as long as the copy itself (blocks are allocated there), so
//! a thread of its own does it: 666 MB in 0.2 s, where one thread for both needs 0.3 to 2 s.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::mpsc;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::error::{Failure, Kind};
use crate::stop::Stop;
use crate::sys;

/// Bytes copied between two looks at the request to stop, and written back at once.
const CHUNK: u64 = 32 << 20;

/// Room that a copy must leave for what the bake itself writes, in bytes.
const HEADROOM: u64 = 256 << 20;

/// How a copy was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// Its blocks are shared with the source's until one of them changes.
    Shared,
    /// So many bytes of data were copied; the rest are holes.
    Bytes(u64),
}

/// Copies `source` into the empty file `target` and makes it `size` bytes large, at least the source's size.
///
/// # Errors
/// [`Kind::Host`] when the filesystem has too little room, with the figures; an interruption; or I/O.
pub(super) fn copy(source: &Path, target: &File, size: u64, stop: &Stop) -> Result<Copied> {
    let from = File::open(source).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let message = format!("the base's disk {} is gone: its image was removed", source.display());
            Failure::new(Kind::Base, message)
                .hint("choose another base: `bakehouse images` lists them")
                .into()
        }
        _ => anyhow::Error::from(error).context(format!("opening {}", source.display())),
    })?;
    let metadata = from.metadata().with_context(|| format!("looking at {}", source.display()))?;
    if size < metadata.len() {
        return Err(Failure::new(
            Kind::Disk,
            format!("a disk of {size} bytes is smaller than its base, which has {}", metadata.len()),
        )
        .hint("set the disk's size to the base's or more, or leave it out")
        .into());
    }
    let copied = match sys::clone_file(from.as_fd(), target.as_fd()) {
        Ok(()) => Copied::Shared,
        Err(error) => {
            tracing::debug!("no shared blocks for {}: {error}", source.display());
            // The blocks in use, 512 bytes each whatever the filesystem's block size (stat(2)).
            check_room(target, metadata.blocks().saturating_mul(512).saturating_add(HEADROOM), source)?;
            let bytes = copy_data(&from, target, metadata.len(), stop)
                .with_context(|| format!("copying {}", source.display()))?;
            Copied::Bytes(bytes)
        }
    };
    target
        .set_len(size)
        .with_context(|| format!("growing a copy of {} to {size} bytes", source.display()))?;
    Ok(copied)
}

/// That the filesystem which holds `file` has `needed` bytes for `what`.
pub(super) fn check_room(file: &File, needed: u64, what: &Path) -> Result<()> {
    let room = nix::sys::statvfs::fstatvfs(file).context("asking for the room in the store")?;
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Failure::new(
        Kind::Host,
        format!(
            "{} needs {} MiB in the local store, which has {} MiB",
            what.display(),
            mib(needed),
            mib(free)
        ),
    )
    .hint("remove images with `bakehouse local remove IMAGE`, or put the store on a larger filesystem")
    .into())
}

/// Makes an empty file `size` bytes large, a hole throughout.
///
/// # Errors
/// [`Kind::Host`] when the filesystem has not even room for what fills it; or I/O.
pub(super) fn blank(target: &File, size: u64) -> Result<Copied> {
    check_room(target, HEADROOM, Path::new("a blank disk"))?;
    target.set_len(size).with_context(|| format!("making a blank disk of {size} bytes"))?;
    Ok(Copied::Bytes(0))
}

fn copy_data(from: &File, to: &File, length: u64, stop: &Stop) -> Result<u64> {
    let write_back = WriteBack::of(to)?;
    let mut copied = 0;
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at, length)? {
        let mut offset = start;
        while offset < end {
            stop.check()?;
            let chunk = CHUNK.min(end - offset);
            let done = copy_range(from, to, offset, chunk)?;
            if done == 0 {
                // The source became shorter: what is missing stays a hole of the copy.
                return Ok(copied);
            }
            write_back.begin(offset, done);
            offset += done;
            copied += done;
        }
        at = end;
    }
    Ok(copied)
}

/// Begins to write back what it is told of, behind the copy's back. It is a help and no promise: what it could
/// not do, the sync at the end does, and reports.
struct WriteBack(mpsc::Sender<(u64, u64)>);

impl WriteBack {
    /// Its thread ends soon after it is dropped, or with the process; nothing waits for it.
    fn of(file: &File) -> Result<Self> {
        let file = file.try_clone().context("opening the copy a second time")?;
        let (sender, ranges) = mpsc::channel();
        std::thread::Builder::new()
            .name("write-back".to_owned())
            .spawn(move || {
                for (offset, length) in ranges {
                    if let Err(error) = sys::begin_write_back(file.as_fd(), offset, length) {
                        tracing::debug!("beginning to write back: {error}");
                        return;
                    }
                }
            })
            .context("starting the thread that writes back")?;
        Ok(Self(sender))
    }

    fn begin(&self, offset: u64, length: u64) {
        if self.0.send((offset, length)).is_err() {
            tracing::debug!("{length} bytes at {offset} are left to the sync");
        }
    }
}

/// The next range with data at or after `at`, if there is one.
fn next_data(file: &File, at: u64, length: u64) -> Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    let seek = |offset: u64, whence| -> nix::Result<u64> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        u64::try_from(lseek(file, offset, whence)?).map_err(|_| Errno::EOVERFLOW)
    };
    match seek(at, Whence::SeekData) {
        Ok(start) => {
            let end = seek(start, Whence::SeekHole).context("looking for a hole")?;
            Ok(Some((start, end.min(length))))
        }
        Err(Errno::ENXIO) => Ok(None),
        // A filesystem that cannot tell holes: all is data.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some((at, length))),
        Err(errno) => Err(errno).context("looking for data"),
    }
}

/// Copies at most `length` bytes at the same place in both files; how many.
fn copy_range(from: &File, to: &File, offset: u64, length: u64) -> Result<u64> {
    match sys::copy_file_range(from.as_fd(), to.as_fd(), offset, length) {
        Ok(done) => Ok(done),
        // Another filesystem (kernels before 5.19), or one that cannot do it.
        Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            copy_through_memory(from, to, offset, length).map_err(anyhow::Error::from)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn copy_through_memory(from: &File, to: &File, offset: u64, length: u64) -> io::Result<u64> {
    let mut buffer = vec![0; usize::try_from(length.min(1 << 20)).unwrap_or(1 << 20)];
    let count = from.read_at(&mut buffer, offset)?;
    to.write_all_at(buffer.get(..count).unwrap_or_default(), offset)?;
    Ok(count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn data_is_copied_and_holes_stay_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        let mut file = File::create(&source).unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        file.write_all_at(&[9; 5000], 40 << 20).unwrap();
        file.set_len(200 << 20).unwrap();
        let to = File::create(&target).unwrap();
        copy(&source, &to, 300 << 20, &Stop::default()).unwrap();
        let read = |path: &Path, at, count| {
            let mut bytes = vec![0; count];
            File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert_eq!(read(&source, 0, 101_000), read(&target, 0, 101_000));
        assert_eq!(read(&source, 40 << 20, 8192), read(&target, 40 << 20, 8192));
        let metadata = to.metadata().unwrap();
        assert_eq!(metadata.len(), 300 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn the_way_through_memory_copies_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&source, &bytes).unwrap();
        let (from, to) = (File::open(&source).unwrap(), File::create(&target).unwrap());
        let mut at = 0;
        while at < bytes.len() as u64 {
            at += copy_through_memory(&from, &to, at, bytes.len() as u64 - at).unwrap();
        }
        assert_eq!(std::fs::read(&target).unwrap(), bytes);
    }

    #[test]
    fn a_disk_smaller_than_its_base_and_a_stop_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a");
        std::fs::write(&source, [1; 4096]).unwrap();
        let to = File::create(folder.path().join("b")).unwrap();
        let error = copy(&source, &to, 4095, &Stop::default()).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Disk);
        let stop = Stop::default();
        stop.raise(15);
        let error = copy_data(&File::open(&source).unwrap(), &to, 4096, &stop).unwrap_err();
        assert_eq!(crate::error::exit_status(&error), 143);
    }

    #[test]
    fn too_little_room_is_told_in_figures() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("a")).unwrap();
        let error = check_room(&file, u64::MAX, Path::new("disk")).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Host);
        assert!(error.to_string().contains("MiB in the local store, which has"), "{error}");
    }
}
