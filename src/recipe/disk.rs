//! `[disk]`: the image's root volume; `[disk.bake]`: in what the bake's own volume differs from it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::reader::{Complaints, Table, shown};
use super::volume::{self, Said};
use super::{Complaint, Spanned};

/// `[disk]`. Sizes in bytes, iops in operations a second, throughput in MiB a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskSpec {
    /// Size in bytes; the base's where left out.
    pub size: Option<u64>,
    /// EBS volume type (`gp3`, `io2`, …).
    pub volume_type: Option<String>,
    /// Provisioned operations a second.
    pub iops: Option<u32>,
    /// Throughput in MiB/s (gp3 alone).
    pub throughput: Option<u32>,
    /// The root's partition number, where finding it by content is not wanted.
    pub partition: Option<u32>,
    /// Whether an instance's root volume goes with the instance.
    pub delete_on_termination: Option<bool>,
    /// Whether the volume, and so the image's snapshot, is encrypted; the base's where left out.
    pub encrypted: Option<bool>,
    /// The KMS key that it is encrypted under: an id, an alias or the ARN of either.
    pub kms_key: Option<String>,
    /// In what the bake's own volume differs.
    pub bake: BakeSpec,
}

/// `[disk.bake]`: what is said here holds while the image is baked, and is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BakeSpec {
    /// EBS volume type.
    pub volume_type: Option<String>,
    /// Provisioned operations a second.
    pub iops: Option<u32>,
    /// Throughput in MiB/s (gp3 alone).
    pub throughput: Option<u32>,
    /// At how many MiB/s EBS loads the base's blocks: 100 to 300.
    pub initialization_rate: Option<u32>,
}

impl DiskSpec {
    /// What the bake's own volume is: [`DiskSpec::bake`] over the rest, figures only for the type that they
    /// were said for, gp3 where no type is said.
    pub fn while_baking(&self) -> BakeSpec {
        let own = &self.bake;
        let kind = own.volume_type.as_ref().or(self.volume_type.as_ref());
        let same = own.volume_type.is_none() || own.volume_type == self.volume_type;
        BakeSpec {
            volume_type: Some(kind.map_or("gp3", String::as_str).to_owned()),
            iops: own.iops.or(self.iops.filter(|_| same)),
            throughput: own.throughput.or(self.throughput.filter(|_| same)),
            initialization_rate: own.initialization_rate,
        }
    }

    /// What EC2 would refuse of the bake's own volume at a size in bytes, in sentences.
    pub(crate) fn refused(&self, size: u64) -> Vec<String> {
        let baking = self.while_baking();
        let number = |number: Option<u32>| number.map(i64::from);
        volume::refused(&Said {
            kind: baking.volume_type.as_deref(),
            size: Some(size),
            iops: number(baking.iops),
            throughput: number(baking.throughput),
            rate: number(baking.initialization_rate),
            root: true,
            partial: false,
        })
    }
}

/// The keys of a table that volumes' limits are told of.
pub(super) struct Read {
    pub kind: Option<Spanned<String>>,
    pub size: Option<Spanned<u64>>,
    pub iops: Option<Spanned<i64>>,
    pub throughput: Option<Spanned<i64>>,
    pub rate: Option<Spanned<i64>>,
}

impl Read {
    pub(super) fn of(table: &mut Table, complaints: &mut Complaints) -> Self {
        Self {
            kind: table.string("type", complaints),
            size: None,
            iops: table.integer("iops", complaints),
            throughput: table.integer("throughput", complaints),
            rate: None,
        }
    }

    pub(super) fn said(&self, root: bool, partial: bool) -> Said<'_> {
        Said {
            kind: self.kind.as_ref().map(|kind| kind.value.as_str()),
            size: self.size.as_ref().map(|size| size.value),
            iops: self.iops.as_ref().map(|iops| iops.value),
            throughput: self.throughput.as_ref().map(|throughput| throughput.value),
            rate: self.rate.as_ref().map(|rate| rate.value),
            root,
            partial,
        }
    }

    fn spans(&self) -> BTreeMap<&'static str, Range<usize>> {
        let mut spans = BTreeMap::new();
        let mut add = |key, span: Option<&Range<usize>>| {
            if let Some(span) = span {
                spans.insert(key, span.clone());
            }
        };
        add("type", self.kind.as_ref().map(|said| &said.span));
        add("size", self.size.as_ref().map(|said| &said.span));
        add("iops", self.iops.as_ref().map(|said| &said.span));
        add("throughput", self.throughput.as_ref().map(|said| &said.span));
        add("initialization_rate", self.rate.as_ref().map(|said| &said.span));
        spans
    }

    /// Complains of what EC2 would refuse, where it is about a key of this table.
    pub(super) fn check(&self, said: &Said<'_>, complaints: &mut Complaints) {
        let spans = self.spans();
        for wrong in volume::wrong(said) {
            if let Some(span) = spans.get(wrong.key) {
                wrong.complain(span.clone(), complaints);
            }
        }
    }
}

pub(super) fn small(number: Option<Spanned<i64>>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number.value).ok())
}

pub(super) fn disk(mut table: Table, complaints: &mut Complaints) -> DiskSpec {
    let size = table.size("size", complaints);
    let read = Read { size, ..Read::of(&mut table, complaints) };
    let partition = table.integer("partition", complaints);
    let delete_on_termination = table.bool("delete_on_termination", complaints);
    let encryption = table.entry("encrypted").map(|(_, value)| value.span.clone());
    let encrypted = table.bool("encrypted", complaints);
    let kms_key = table.string("kms_key", complaints);
    let bake = table.table("bake", complaints);
    if let Some((name, _)) = table.entry("initialization_rate") {
        complaints.push(
            Complaint::new("`initialization_rate` is the bake's own volume's", name.span.clone())
                .label("not in [disk]")
                .help("put it in [disk.bake]: an image keeps no such rate"),
        );
    }
    table.finish(complaints);

    read.check(&read.said(true, false), complaints);
    let bake = bake.map(|table| baking(table, &read, complaints)).unwrap_or_default();
    if let Some(partition) = &partition
        && !(1..=128).contains(&partition.value)
    {
        complaints.push(Complaint::new("`partition` is 1 to 128", partition.span.clone()));
    }
    if let Some(key) = &kms_key {
        if let Some(why) = wrong_key(&key.value) {
            complaints.push(Complaint::new(format!("`kms_key` {why}"), key.span.clone()).help(KEY_HELP));
        }
        if let (Some(false), Some(span)) = (encrypted, encryption) {
            complaints.push(Complaint::new("`kms_key` encrypts, and `encrypted` is false", span));
        }
    }
    DiskSpec {
        size: read.size.map(|size| size.value),
        volume_type: read.kind.map(|kind| kind.value),
        iops: small(read.iops),
        throughput: small(read.throughput),
        partition: small(partition),
        delete_on_termination,
        encrypted: encrypted.or(kms_key.is_some().then_some(true)),
        kms_key: kms_key.map(|key| key.value),
        bake,
    }
}

/// `[disk.bake]`, checked as what it makes of `[disk]`.
fn baking(mut table: Table, disk: &Read, complaints: &mut Complaints) -> BakeSpec {
    table.what = "[disk.bake]".to_owned();
    let rate = table.integer("initialization_rate", complaints);
    let own = Read { rate, ..Read::of(&mut table, complaints) };
    table.finish(complaints);
    let image = disk.said(true, false);
    let said = own.said(true, false);
    let same = said.kind.is_none() || said.kind == image.kind;
    let all = Said {
        kind: said.kind.or(image.kind),
        size: image.size,
        iops: said.iops.or(image.iops.filter(|_| same)),
        throughput: said.throughput.or(image.throughput.filter(|_| same)),
        ..said
    };
    own.check(&all, complaints);
    BakeSpec {
        volume_type: own.kind.map(|kind| kind.value),
        iops: small(own.iops),
        throughput: small(own.throughput),
        initialization_rate: small(own.rate),
    }
}

const KEY_HELP: &str = "a key's id, alias/NAME, or the ARN of either";

/// Why a text can't name a KMS key, by CreateVolume's forms of one.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html>.
pub(crate) fn wrong_key(key: &str) -> Option<String> {
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || more.contains(c))
    };
    let alias = |text: &str| text.strip_prefix("alias/").is_some_and(|name| plain(name, "/_"));
    let parts: Vec<_> = key.splitn(6, ':').collect();
    let good = match parts.as_slice() {
        ["arn", partition, "kms", region, account, name] => {
            partition.starts_with("aws")
                && plain(region, "")
                && plain(account, "")
                && (alias(name) || name.strip_prefix("key/").is_some_and(|id| plain(id, "")))
        }
        [id] => alias(id) || plain(id, ""),
        _ => false,
    };
    (!good).then(|| format!("{:?} names no KMS key", shown(key)))
}
