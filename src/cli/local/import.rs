//! `bakehouse local import`: a disk image from a file into the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cli::Context;
use crate::cloud::local::{NewImage, Origin, Provenance};
use crate::error::{Failure, Kind};
use crate::program::Program;
use crate::stop::Stop;

/// What comes in.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The disk image
    pub file: PathBuf,
    /// Its name in the store
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// raw, qcow2, vmdk, … in QEMU's words [default: what the file says it is]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// x86_64 or arm64 [default: this host's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// How it boots
    #[arg(long, value_parser = ["bios", "uefi"])]
    pub boot_mode: Option<String>,
    /// Its description
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub description: String,
    /// A tag; repeatable. With the id of an AMI as its value it is the base of recipes that name that AMI
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
}

const FILE: &str = "name the file of a disk image: raw, qcow2, vmdk or what else qemu-img reads";

/// What `qemu-img info` says of a file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    format: String,
    backing_filename: Option<String>,
    /// Bytes that it takes on its filesystem: at least so much is in it.
    #[serde(default)]
    actual_size: u64,
    #[serde(default)]
    format_specific: serde_json::Value,
}

/// Runs it.
///
/// # Errors
/// [`Kind::Base`] when the file is no disk image that can stand alone, [`Kind::Name`] when the name is taken.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let store = super::store_to_fill(context)?;
    let image = NewImage {
        name: args.name.clone(),
        arch: super::arch(args.arch.as_deref())?,
        description: args.description.clone(),
        tags: args.tags.iter().cloned().collect::<BTreeMap<_, _>>(),
        boot_mode: args.boot_mode.clone(),
        provenance: Provenance::new(Origin::Import, Some(local_file(&args.file)?.display().to_string())),
    };
    let (file, format) = (args.file.clone(), args.format.clone());
    let stop = context.stop.clone();
    context.reporter.phase("import", &args.file.display().to_string());
    let record = super::work(context, "the import", move || {
        store.name_free(&image.name)?;
        let info = look(&file, format, &stop)?;
        store.check_room(info.actual_size, &file)?;
        store.add(image, |target| convert(&file, &info.format, target, &stop))
    })?;
    super::print_image(context.output, &record)
}

/// What the file is, once it is sure that reading it reads nothing else: a file that somebody else made may name
/// any file of this host as its backing file, and the image would hold a copy of it.
fn look(file: &Path, said: Option<String>, stop: &Stop) -> Result<Info> {
    let metadata = std::fs::metadata(file)
        .with_context(|| Failure::new(Kind::Base, format!("reading {}", file.display())).hint(FILE))?;
    let why = match (metadata.is_dir(), metadata.is_file() && metadata.len() == 0) {
        (true, _) => Some("it is a folder"),
        (_, true) => Some("it is empty"),
        _ => None,
    };
    if let Some(why) = why {
        let message = format!("{} is no disk image: {why}", file.display());
        return Err(Failure::new(Kind::Base, message).hint(FILE).into());
    }
    let mut program = Program::new("qemu-img").args(["info", "--output=json"]);
    if let Some(format) = &said {
        program = program.args(["-f", format]);
    }
    let text = program.arg(local_file(file)?).run(stop, &mut |_| {}).with_context(|| {
        Failure::new(Kind::Base, format!("{} cannot be read as a disk image", file.display()))
            .hint("tell its format with --format; `qemu-img --help` lists those that there are")
    })?;
    check(&text, file)
}

fn check(info: &str, file: &Path) -> Result<Info> {
    let info: Info = serde_json::from_str(info).context("reading what qemu-img says")?;
    let elsewhere = info.backing_filename.as_deref().or_else(|| {
        let data = info.format_specific.get("data")?;
        // qcow2 may keep its data in another file; a vmdk's extents are files too.
        data.get("data-file").and_then(|name| name.as_str())
    });
    if let Some(elsewhere) = elsewhere {
        let message = format!("{} does not stand alone: it rests on {elsewhere}", file.display());
        return Err(Failure::new(Kind::Base, message)
            .hint("make it whole first: qemu-img convert -O qcow2 FILE WHOLE.qcow2")
            .into());
    }
    if info.format == "vmdk" {
        vmdk_stands_alone(&info.format_specific, file)?;
    }
    Ok(info)
}

/// A vmdk may be a mere list of files; only its own may be read.
fn vmdk_stands_alone(specific: &serde_json::Value, file: &Path) -> Result<()> {
    let extents = specific.pointer("/data/extents").and_then(|extents| extents.as_array());
    let own = file.file_name();
    for extent in extents.into_iter().flatten() {
        let name = extent.get("filename").and_then(|name| name.as_str()).unwrap_or_default();
        let path = Path::new(name.strip_prefix("file:").unwrap_or(name));
        if path.file_name() != own || path.components().any(|part| part.as_os_str() == "..") {
            let message = format!("{} does not stand alone: a part of it is {name}", file.display());
            return Err(Failure::new(Kind::Base, message)
                .hint("make it one file first: qemu-img convert -O qcow2 FILE WHOLE.qcow2")
                .into());
        }
    }
    Ok(())
}

/// Writes the image's content to `target`, blocks of zeroes as holes.
fn convert(file: &Path, format: &str, target: &Path, stop: &Stop) -> Result<()> {
    super::tied(Program::new("qemu-img"))
        .args(["convert", "-f", format, "-O", "raw", "-S", "4k"])
        .arg(local_file(file)?)
        .arg(target)
        .run(stop, &mut |_| {})
        .with_context(|| format!("importing {}", file.display()))?;
    Ok(())
}

/// A path that qemu-img takes for one, and not for a protocol (`nbd:…`, `json:{…}`) or an option.
fn local_file(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).with_context(|| format!("finding {}", file.display()))
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a tag is KEY=VALUE")?;
    if key.is_empty() { Err("a tag has a key".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(info: &str) -> Result<String, String> {
        check(info, Path::new("/d/disk.vmdk")).map(|info| info.format).map_err(|error| error.to_string())
    }

    #[test]
    fn an_image_that_rests_on_another_file_is_refused() {
        assert_eq!(checked(r#"{"format": "raw", "virtual-size": 1}"#).unwrap(), "raw");
        let backed = r#"{"format": "qcow2", "backing-filename": "/etc/shadow"}"#;
        assert!(checked(backed).unwrap_err().contains("/etc/shadow"));
        let data =
            r#"{"format": "qcow2", "format-specific": {"type": "qcow2", "data": {"data-file": "/x"}}}"#;
        assert!(checked(data).unwrap_err().contains("/x"));
    }

    #[test]
    fn a_vmdk_that_is_a_list_of_files_is_refused() {
        let of = |name: &str| {
            format!(
                r#"{{"format": "vmdk", "format-specific": {{"data": {{"extents": [{{"filename": "{name}"}}]}}}}}}"#
            )
        };
        assert_eq!(checked(&of("/d/disk.vmdk")).unwrap(), "vmdk");
        assert!(checked(&of("/etc/shadow")).is_err());
        assert!(checked(&of("/d/../etc/disk.vmdk")).is_err());
    }

    #[test]
    fn tags_have_a_key() {
        assert_eq!(tag("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(tag("a").is_err() && tag("=b").is_err());
    }
}
