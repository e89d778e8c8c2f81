//! The flags that say how the image is shaped: its volumes, how it boots, its tags, and what becomes of an image
//! of its name.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::error::{Failure, Kind};
use crate::recipe::disk::{DiskSpec, wrong_key};
use crate::recipe::template::Template;
use crate::recipe::volume::{self, Said};
use crate::recipe::{
    self, Collision, Complaint, Recipe, Source, Spanned, Tags, UefiData, Variables, open_word, uefi_data,
};

/// The flags.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Shape of the image")]
pub struct Shape {
    /// EBS type of the root volume: gp3, gp2, io1, io2, standard
    #[arg(long, value_name = "TYPE")]
    pub volume_type: Option<String>,
    /// Operations a second of the root volume
    #[arg(long, value_name = "N")]
    pub iops: Option<u32>,
    /// Throughput of the root volume (gp3), in MiB a second
    #[arg(long, value_name = "N")]
    pub throughput: Option<u32>,
    /// At how many MiB a second EBS loads the base's blocks into the bake's volume (it is paid for)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=300))]
    pub initialization_rate: Option<u32>,
    /// Encrypt the volume, and so the image's snapshot
    #[arg(long)]
    pub encrypt: bool,
    /// The KMS key to encrypt under: its id, alias/NAME or an ARN; the account's own for EBS without it
    #[arg(long, value_name = "KEY")]
    pub kms_key: Option<String>,
    /// A further block device: /dev/sdb=20GiB, =snap-…, =ephemeral0 or =drop, and more as ,type=io2,iops=500; repeatable
    #[arg(long = "device", value_name = "NAME=WHAT")]
    pub devices: Vec<String>,
    /// How the image boots
    #[arg(long, value_name = "MODE", value_parser = ["legacy-bios", "uefi", "uefi-preferred"])]
    pub boot_mode: Option<String>,
    /// A file with the UEFI variable store, bytes or base64; or none
    #[arg(long, value_name = "FILE")]
    pub uefi_data: Option<PathBuf>,
    /// Whether the image has a TPM
    #[arg(long, value_name = "VERSION", value_parser = ["v2.0", "none"])]
    pub tpm: Option<String>,
    /// Whether instances require version 2 of the metadata service
    #[arg(long, value_name = "VERSION", value_parser = ["v2.0", "none"])]
    pub imds: Option<String>,
    /// Whether the image has enhanced networking with ENA
    #[arg(long, alias = "ena-networking", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    pub ena: Option<bool>,
    /// Whether the image has enhanced networking with the Intel 82599 VF interface
    #[arg(long, alias = "enhanced-networking", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    pub sriov: Option<bool>,
    /// A tag of the bake's volume alone; repeatable
    #[arg(long = "volume-tag", value_name = "KEY=VALUE")]
    pub volume_tags: Vec<String>,
    /// A tag of the snapshot alone; repeatable
    #[arg(long = "snapshot-tag", value_name = "KEY=VALUE")]
    pub snapshot_tags: Vec<String>,
    /// A tag of the image alone; repeatable
    #[arg(long = "image-tag", value_name = "KEY=VALUE")]
    pub image_tags: Vec<String>,
    /// Take that image's place: it is deregistered once the new one is complete
    #[arg(long, conflicts_with = "suffix", help_heading = "Where the name is taken")]
    pub replace: bool,
    /// Delete the snapshots of the image that is replaced
    #[arg(long, conflicts_with = "suffix", help_heading = "Where the name is taken")]
    pub replace_snapshots: bool,
    /// The same as --replace --replace-snapshots
    #[arg(long, conflicts_with = "suffix", help_heading = "Where the name is taken")]
    pub force: bool,
    /// Put a number behind the name; so it is for a name with {time} in it where nothing is said
    #[arg(long, help_heading = "Where the name is taken")]
    pub suffix: bool,
}

impl Shape {
    /// Lays what was said over the recipe.
    pub fn lay_over(&self, recipe: &mut Recipe) -> Result<()> {
        let disk = &mut recipe.disk;
        if self.volume_type.is_some() && self.volume_type != disk.volume_type {
            // Another type does not take the old one's figures along.
            (disk.iops, disk.throughput) = (None, None);
        }
        lay(&mut disk.volume_type, &self.volume_type);
        lay(&mut disk.iops, &self.iops);
        lay(&mut disk.throughput, &self.throughput);
        lay(&mut disk.bake.initialization_rate, &self.initialization_rate);
        if let Some(why) = self.kms_key.as_deref().and_then(wrong_key) {
            return Err(usage(
                format!("--kms-key {why}"),
                "give a key's id, alias/NAME, or the ARN of either",
            ));
        }
        lay(&mut disk.kms_key, &self.kms_key);
        if self.encrypt || self.kms_key.is_some() {
            disk.encrypted = Some(true);
        }
        self.check_volume(disk)?;
        for device in &self.devices {
            let new = device_of(device)?;
            recipe.devices.retain(|old| old.name != new.name);
            recipe.devices.push(new);
        }
        let shape = &mut recipe.image.shape;
        lay(&mut shape.boot_mode, &self.boot_mode);
        let version = |said: &Option<String>| said.as_ref().map(|said| said == "v2.0");
        lay(&mut shape.tpm, &version(&self.tpm));
        lay(&mut shape.imds, &version(&self.imds));
        lay(&mut shape.ena, &self.ena);
        lay(&mut shape.sriov, &self.sriov);
        match &self.uefi_data {
            Some(none) if none.as_os_str() == "none" => shape.uefi_data = Some(UefiData::None),
            Some(file) => shape.uefi_data = Some(read_uefi(file)?),
            None => {}
        }
        for (flag, said, tags) in [
            ("--volume-tag", &self.volume_tags, &mut recipe.tags.volume),
            ("--snapshot-tag", &self.snapshot_tags, &mut recipe.tags.snapshot),
            ("--image-tag", &self.image_tags, &mut recipe.tags.image),
        ] {
            lay_tags(flag, said, &recipe.variables, tags)?;
        }
        for tag in &self.volume_tags {
            if let Some(word) = recipe.tags.volume.values().find_map(|value| open_word(&value.value)) {
                return Err(usage(
                    format!("--volume-tag {tag}: {{{word}}} is not known when the volume is made"),
                    "say it with --snapshot-tag or --image-tag",
                ));
            }
        }
        if self.replace || self.force {
            let delete_snapshots = self.force || self.replace_snapshots;
            recipe.image.said_collision = Some(Collision::Replace { delete_snapshots });
        } else if let (Some(Collision::Replace { delete_snapshots }), true) =
            (&mut recipe.image.said_collision, self.replace_snapshots)
        {
            *delete_snapshots = true;
        } else if self.replace_snapshots {
            return Err(usage(
                "--replace-snapshots without a replacement".to_owned(),
                "say --replace too, or on_collision = \"replace\" in [image]",
            ));
        }
        if self.suffix {
            recipe.image.said_collision = Some(Collision::Suffix);
        }
        Ok(())
    }

    /// What EC2 would refuse of the root volume is refused on every cloud, as in a recipe.
    fn check_volume(&self, disk: &DiskSpec) -> Result<()> {
        let number = |flag: &str, said: Option<u32>| said.map(|said| format!("{flag} {said}"));
        let kind = self.volume_type.as_ref().map(|kind| format!("--volume-type {kind}"));
        let said = [kind, number("--iops", self.iops), number("--throughput", self.throughput)];
        let said: Vec<_> = said.into_iter().flatten().collect();
        if said.is_empty() {
            return Ok(());
        }
        let root = Said {
            kind: disk.volume_type.as_deref(),
            size: disk.size,
            iops: disk.iops.map(i64::from),
            throughput: disk.throughput.map(i64::from),
            rate: None,
            root: true,
            partial: false,
        };
        let wrong = volume::wrong(&root);
        if wrong.is_empty() {
            return Ok(());
        }
        let why: Vec<_> = wrong.iter().map(|one| one.message.as_str()).collect();
        let help: Vec<_> = wrong.iter().filter_map(|one| one.help.as_deref()).collect();
        let hint = match help.is_empty() {
            true => "say what EBS has, or leave it out for what the base has".to_owned(),
            false => help.join("; "),
        };
        Err(usage(format!("{}: {}", said.join(" "), why.join("; ")), &hint))
    }
}

/// A template that was said, with the recipe's variables filled in.
///
/// # Errors
/// [`Kind::Usage`] where it is none, before anything is asked of a cloud. `said` is the flag with its value.
pub fn template(said: &str, text: &str, variables: &Variables) -> Result<String> {
    let filled = variables
        .fill_template(text)
        .map_err(|why| usage(format!("{said}: {why}"), "[vars] of the recipe declares variables"))?;
    match Template::parse(&filled) {
        Ok(_) => Ok(filled),
        Err(wrong) => {
            let why: Vec<_> = wrong.iter().map(|one| one.message.as_str()).collect();
            let help: Vec<_> = wrong.iter().filter_map(|one| one.help.as_deref()).collect();
            Err(usage(format!("{said}: {}", why.join("; ")), &help.join("; ")))
        }
    }
}

/// Lays tags that were said as KEY=VALUE over a recipe's.
pub fn lay_tags(flag: &str, said: &[String], variables: &Variables, tags: &mut Tags) -> Result<()> {
    for tag in said {
        let Some((key, value)) = tag.split_once('=') else {
            return Err(usage(format!("{flag} {tag} has no ="), &format!("write {flag} KEY=VALUE")));
        };
        if let Some(why) = recipe::wrong_tag(key) {
            return Err(usage(format!("{flag} {tag}: {why}"), "give another key"));
        }
        let value = template(&format!("{flag} {tag}"), value, variables)?;
        tags.insert(key.to_owned(), Spanned { value, span: 0..0 });
    }
    Ok(())
}

fn lay<T: Clone>(old: &mut Option<T>, said: &Option<T>) {
    if said.is_some() {
        old.clone_from(said);
    }
}

fn usage(message: String, hint: &str) -> anyhow::Error {
    Failure::new(Kind::Usage, message).hint(hint).into()
}

/// `/dev/sdb=20GiB,type=io2,iops=500`, by way of the recipe's own reader.
fn device_of(said: &str) -> Result<recipe::DeviceSpec> {
    let wrong = |why: String| usage(format!("--device {said}: {why}"), "write --device /dev/sdb=20GiB");
    let (name, what) = said.split_once('=').ok_or_else(|| wrong("it has no =".to_owned()))?;
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!("name = {}\n", quoted(name));
    for part in what.split(',') {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None if part == "drop" => ("drop", "true"),
            None if part.starts_with("ephemeral") => ("ephemeral", part),
            None if part.starts_with("snap-") => ("snapshot", part),
            None => ("size", part),
        };
        let plain = value.parse::<i64>().is_ok() && key != "size" || ["true", "false"].contains(&value);
        let value = if plain { value.to_owned() } else { quoted(value) };
        text.push_str(&format!("{} = {value}\n", quoted(key)));
    }
    let source = Source { name: format!("--device {said}"), text };
    recipe::one_device(&source).map_err(|complaints| {
        let told = |complaint: &Complaint| match &complaint.help {
            Some(help) => format!("{} ({help})", complaint.message),
            None => complaint.message.clone(),
        };
        wrong(complaints.iter().map(told).collect::<Vec<_>>().join("; "))
    })
}

/// Reads a file with a UEFI variable store.
fn read_uefi(file: &Path) -> Result<UefiData> {
    let reading = || {
        Failure::new(Kind::Recipe, format!("reading the UEFI data in {}", file.display()))
            .hint("name a file with the variable store, as `aws ec2 get-instance-uefi-data` tells it")
    };
    // One larger is none; and a device or a pipe may have no end.
    let content = std::fs::metadata(file)
        .and_then(
            |meta| if meta.is_file() && meta.len() <= 1 << 20 { std::fs::read(file) } else { Ok(Vec::new()) },
        )
        .with_context(reading)?;
    let data = uefi_data(&content).map_err(|why| {
        Failure::new(Kind::Recipe, format!("{} {why}", file.display()))
            .hint("name a file with the variable store, as `aws ec2 get-instance-uefi-data` tells it")
    })?;
    Ok(UefiData::Data(data))
}

/// Reads the file that the recipe names as its UEFI data, beside the recipe.
///
/// # Errors
/// What is wrong with it, at its place in the recipe.
pub fn fill_in_uefi(recipe: &mut Recipe, folder: &Path) -> Result<(), Complaint> {
    let Some(UefiData::File(file)) = &recipe.image.shape.uefi_data else { return Ok(()) };
    let climbs = Path::new(&file.value).components().any(|part| part == std::path::Component::ParentDir);
    let read = if climbs {
        Err(usage(format!("{} climbs out of the recipe's folder", file.value), ""))
    } else {
        read_uefi(&folder.join(&file.value))
    };
    match read {
        Ok(data) => {
            recipe.image.shape.uefi_data = Some(data);
            Ok(())
        }
        Err(error) => Err(Complaint::new(format!("`uefi_data`: {error:#}"), file.span.clone())
            .help("base64 that begins with QU1aTlVFRk, a file with it or its bytes, or \"none\"")),
    }
}
