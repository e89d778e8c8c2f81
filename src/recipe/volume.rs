//! What an EBS volume can be: the limits of EC2's volume types.

use std::ops::Range;

use super::Complaint;
use super::reader::{Complaints, listed, shown};

/// EC2's volume types (CreateVolume's documentation): GiB, operations a second where they can be said, and how
/// many of those a GiB.
/// <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html>.
struct VolumeType {
    name: &'static str,
    gib: (u64, u64),
    iops: Option<(i64, i64, u64)>,
}

const VOLUME_TYPES: [VolumeType; 7] = [
    VolumeType { name: "gp3", gib: (1, 65_536), iops: Some((3_000, 80_000, 500)) },
    VolumeType { name: "gp2", gib: (1, 16_384), iops: None },
    VolumeType { name: "io1", gib: (4, 16_384), iops: Some((100, 64_000, 50)) },
    VolumeType { name: "io2", gib: (4, 65_536), iops: Some((100, 256_000, 1_000)) },
    VolumeType { name: "standard", gib: (1, 1_024), iops: None },
    VolumeType { name: "st1", gib: (125, 16_384), iops: None },
    VolumeType { name: "sc1", gib: (125, 16_384), iops: None },
];

/// How many of them a root can be on: the first so many.
const BOOTS: usize = 5;

/// The operations a second of a gp3 volume that says nothing of them.
const GP3_IOPS: i64 = 3_000;

/// What is said of a volume.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said<'a> {
    pub kind: Option<&'a str>,
    /// In bytes.
    pub size: Option<u64>,
    pub iops: Option<i64>,
    pub throughput: Option<i64>,
    pub rate: Option<i64>,
    /// Whether the root is on it.
    pub root: bool,
    /// Whether what is not said here may be said elsewhere, by the base: then nothing is missing.
    pub partial: bool,
}

/// Something wrong with a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The key that it is about: `type`, `size`, `iops`, `throughput` or `initialization_rate`.
    pub key: &'static str,
    pub message: String,
    pub label: Option<&'static str>,
    pub help: Option<String>,
    /// Whether something is missing, rather than wrong.
    pub missing: bool,
}

impl Wrong {
    fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into(), label: None, help: None, missing: false }
    }

    fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Complains of it, at the place of its key.
    pub(crate) fn complain(self, span: Range<usize>, complaints: &mut Complaints) {
        let mut complaint = Complaint::new(self.message, span);
        if let Some(label) = self.label {
            complaint = complaint.label(label);
        }
        complaint.help = self.help;
        if self.missing { complaints.missing(complaint) } else { complaints.push(complaint) }
    }
}

/// All that EC2 would refuse of a volume, as far as what is said tells it.
pub(crate) fn wrong(said: &Said<'_>) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let known = said.kind.and_then(|kind| VOLUME_TYPES.iter().find(|known| known.name == kind));
    let boots = |known: &VolumeType| VOLUME_TYPES.iter().take(BOOTS).any(|one| one.name == known.name);
    let known = known.filter(|known| !said.root || boots(known));
    if let (Some(kind), None) = (said.kind, known) {
        let names: Vec<_> = VOLUME_TYPES.iter().map(|known| known.name).collect();
        let names = if said.root { names.get(..BOOTS).unwrap_or_default() } else { &names };
        let one = Wrong::new("type", format!("unknown volume type `{}`", shown(kind)));
        wrong.push(match kind {
            "st1" | "sc1" => one.help("EC2 boots from no st1 or sc1 volume; gp3 is the usual type"),
            _ => one.help(format!("known are {}", listed(names))),
        });
    }
    // gp3 is what is made where no type is said, so its limits hold then, but for the size, which the local
    // store has no limit for.
    let kind = if said.kind.is_none() { VOLUME_TYPES.first() } else { known };
    let gib = said.size.map(|size| size.div_ceil(1 << 30));
    if let (Some(gib), Some(known)) = (gib, known)
        && !(known.gib.0..=known.gib.1).contains(&gib)
    {
        let (least, most) = known.gib;
        wrong.push(Wrong::new("size", format!("the size of {} is {least} to {most} GiB", known.name)));
    }
    if said.size == Some(0) {
        wrong.push(Wrong::new("size", "a disk of no size"));
    }
    if let (Some(iops), Some(kind)) = (said.iops, kind) {
        wrong.extend(wrong_iops(iops, kind, gib));
    }
    if let (None, Some(known), false) = (said.iops, known, said.partial)
        && known.name.starts_with("io")
    {
        let one = Wrong::new("type", format!("a volume of type {} needs `iops`", known.name));
        wrong.push(Wrong { missing: true, ..one });
    }
    if let (Some(throughput), Some(kind)) = (said.throughput, kind) {
        wrong.extend(wrong_throughput(throughput, kind, said));
    }
    if let Some(rate) = said.rate
        && !(100..=300).contains(&rate)
    {
        let one = Wrong::new("initialization_rate", "`initialization_rate` is 100 to 300");
        wrong.push(one.label("MiB a second"));
    }
    wrong
}

fn wrong_iops(iops: i64, kind: &VolumeType, gib: Option<u64>) -> Option<Wrong> {
    let Some((least, most, each)) = kind.iops else {
        return Some(Wrong::new("iops", format!("{} takes no `iops`", kind.name)).help("gp3 does"));
    };
    if !(least..=most).contains(&iops) {
        let one = Wrong::new("iops", format!("`iops` of {} is {least} to {most}", kind.name));
        return Some(one.label("operations a second"));
    }
    let fits = gib.and_then(|gib| i64::try_from(gib.saturating_mul(each)).ok())?;
    (iops > fits.max(least)).then(|| {
        let message = format!("{} has at most {each} `iops` a GiB: {fits} of this size", kind.name);
        Wrong::new("iops", message).label("operations a second")
    })
}

fn wrong_throughput(throughput: i64, kind: &VolumeType, said: &Said<'_>) -> Option<Wrong> {
    if kind.name != "gp3" {
        let one = Wrong::new("throughput", format!("{} takes no `throughput`", kind.name));
        return Some(one.help("gp3 does"));
    }
    if !(125..=2_000).contains(&throughput) {
        return Some(Wrong::new("throughput", "`throughput` of gp3 is 125 to 2000").label("MiB a second"));
    }
    let iops = said.iops.or((!said.partial).then_some(GP3_IOPS))?;
    (throughput > iops / 4).then(|| {
        let message = format!("`throughput` of gp3 is at most a quarter of `iops`: {} of {iops}", iops / 4);
        Wrong::new("throughput", message)
            .label("MiB a second")
            .help(format!("say iops = {}, or less throughput", throughput.saturating_mul(4)))
    })
}

/// The same in sentences.
pub(crate) fn refused(said: &Said<'_>) -> Vec<String> {
    let told = |wrong: Wrong| match wrong.help {
        Some(help) => format!("{}; {help}", wrong.message),
        None => wrong.message,
    };
    wrong(said).into_iter().map(told).collect()
}
