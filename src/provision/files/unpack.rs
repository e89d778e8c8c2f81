//! Unpacks archives: tar, tar.gz, tar.zst and zip, told apart by content.
//!
//! Names that are absolute or climb, devices, and names that lead through a link of the archive's own are
//! refused, and the step fails.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::place::{Attributes, Placer, below, is_kept, now};

/// The longest link target that a zip may have, in bytes: the kernel's PATH_MAX.
const LONGEST_TARGET: u64 = 4096;

/// Unpacks `archive` into the folder `to`, which is made where it is missing.
pub(super) fn unpack(archive: &Path, to: &Path, placer: &mut Placer) -> Result<()> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let mut file = File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
    let mut magic = [0; 4];
    let mut length = 0;
    while let Some(rest) = magic.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).with_context(|| format!("reading {name}"))? {
            0 => break,
            count => length += count,
        }
    }
    file.seek(SeekFrom::Start(0)).with_context(|| format!("reading {name}"))?;
    // Its own folder: no archive says what its mode is.
    placer.folder(to, &Attributes::made_now(0o755))?;
    let buffered = BufReader::new(file);
    match magic {
        [0x1f, 0x8b, ..] => tar(flate2::bufread::MultiGzDecoder::new(buffered), to, placer),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let reader = zstd::stream::read::Decoder::with_buffer(buffered).context("reading zstd")?;
            tar(reader, to, placer)
        }
        [b'P', b'K', 3 | 5, 4 | 6] => zip(buffered, to, placer),
        [b'B', b'Z', b'h', _] | [0xfd, b'7', b'z', b'X'] => {
            bail!("bzip2 and xz are not unpacked: make it a .tar.gz, .tar.zst, .tar or .zip")
        }
        _ => tar(buffered, to, placer),
    }
    .with_context(|| format!("unpacking {name}"))
}

/// Refuses names that lead through something which this archive put there and which is no folder: a link of
/// its own would take them anywhere.
fn check_way(to: &Path, path: &Path, placer: &Placer) -> Result<()> {
    for above in path.ancestors().skip(1).take_while(|above| above.starts_with(to) && *above != to) {
        if placer.has_placed(above) {
            bail!("{} leads through {}, a link of the archive's own", path.display(), above.display());
        }
    }
    Ok(())
}

fn tar(reader: impl Read, to: &Path, placer: &mut Placer) -> Result<()> {
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().context("reading the archive")? {
        let mut entry = entry.context("reading the archive: is it a tar, whole and undamaged?")?;
        let name = entry.path().context("reading a name")?.into_owned();
        let path = below(to, &name)?;
        if path == to {
            continue;
        }
        check_way(to, &path, placer)?;
        let header = entry.header();
        let seconds = i64::try_from(header.mtime().context("reading a time")?).unwrap_or(i64::MAX);
        let mut attributes = Attributes {
            mode: header.mode().context("reading a mode")? & 0o7777,
            modified: (seconds, 0),
            xattrs: Vec::new(),
        };
        let kind = header.entry_type();
        if let Some(extensions) = entry.pax_extensions().context("reading the archive")? {
            for extension in extensions {
                let extension = extension.context("reading an extended header")?;
                let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr."))
                else {
                    continue;
                };
                if is_kept(name.as_ref()) {
                    attributes.xattrs.push((name.into(), extension.value_bytes().to_vec()));
                }
            }
        }
        let target = || entry.link_name().context("reading a link")?.context("a link leads nowhere");
        match kind {
            tar::EntryType::Directory => placer.folder(&path, &attributes)?,
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                placer.file(&path, &mut entry, &attributes)?;
            }
            tar::EntryType::Symlink => placer.symlink(&path, &target()?, &attributes)?,
            tar::EntryType::Link => placer.hard_link(&path, &below(to, &target()?)?)?,
            tar::EntryType::XGlobalHeader => {}
            _ => bail!(
                "{} is a device, a pipe or something unknown: only files, folders and links are unpacked",
                name.display()
            ),
        }
    }
    Ok(())
}

fn zip(reader: BufReader<File>, to: &Path, placer: &mut Placer) -> Result<()> {
    let mut archive = zip::ZipArchive::new(reader).context("reading the zip: is it whole and undamaged?")?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).context("reading the zip")?;
        let path = below(to, Path::new(entry.name()))?;
        if path == to {
            continue;
        }
        check_way(to, &path, placer)?;
        let mode = entry.unix_mode().unwrap_or(if entry.is_dir() { 0o755 } else { 0o644 });
        let modified = entry.last_modified().map_or_else(now, |time| (seconds_of(&time), 0));
        let attributes = Attributes { mode: mode & 0o7777, modified, xattrs: Vec::new() };
        match mode & nix::libc::S_IFMT {
            _ if entry.is_dir() => placer.folder(&path, &attributes)?,
            nix::libc::S_IFLNK => {
                let mut target = String::new();
                (&mut entry).take(LONGEST_TARGET).read_to_string(&mut target).context("reading a link")?;
                placer.symlink(&path, Path::new(&target), &attributes)?;
            }
            0 | nix::libc::S_IFREG => placer.file(&path, &mut entry, &attributes)?,
            _ => bail!(
                "{} is a device, a pipe or something unknown: only files, folders and links are unpacked",
                entry.name()
            ),
        }
    }
    Ok(())
}

/// A zip's times have no zone: taken for UTC.
fn seconds_of(time: &zip::DateTime) -> i64 {
    let field = |value: u8| i8::try_from(value).unwrap_or(1);
    let date = i16::try_from(time.year()).ok().and_then(|year| {
        jiff::civil::DateTime::new(
            year,
            field(time.month()),
            field(time.day()),
            field(time.hour()),
            field(time.minute()),
            field(time.second()),
            0,
        )
        .ok()
    });
    date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map_or(0, |time| time.timestamp().as_second())
}
