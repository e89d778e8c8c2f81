//! `[disk]`, with the limits of EC2's volume types.

use super::reader::{Complaints, Table, listed, shown};
use super::{Complaint, DiskSpec, Spanned};

/// EC2's volume types that a root can be on (CreateVolume's documentation): GiB, and operations a second
/// where they can be said.
struct VolumeType {
    name: &'static str,
    gib: (u64, u64),
    iops: Option<(i64, i64)>,
}

const VOLUME_TYPES: [VolumeType; 5] = [
    VolumeType { name: "gp3", gib: (1, 65_536), iops: Some((3_000, 80_000)) },
    VolumeType { name: "gp2", gib: (1, 16_384), iops: None },
    VolumeType { name: "io1", gib: (4, 16_384), iops: Some((100, 64_000)) },
    VolumeType { name: "io2", gib: (4, 65_536), iops: Some((100, 256_000)) },
    VolumeType { name: "standard", gib: (1, 1_024), iops: None },
];

pub(super) fn disk(mut table: Table, complaints: &mut Complaints) -> DiskSpec {
    let size = table.size("size", complaints);
    let kind = table.string("type", complaints);
    let iops = table.integer("iops", complaints);
    let throughput = table.integer("throughput", complaints);
    let partition = table.integer("partition", complaints);
    table.finish(complaints);

    let known = kind.as_ref().and_then(|kind| {
        let found = VOLUME_TYPES.iter().find(|known| known.name == kind.value);
        if found.is_none() {
            let complaint =
                Complaint::new(format!("unknown volume type `{}`", shown(&kind.value)), kind.span.clone());
            complaints.push(match kind.value.as_str() {
                "st1" | "sc1" => complaint.help("EC2 boots from no st1 or sc1 volume; gp3 is the usual type"),
                _ => complaint.help(format!("known are {}", listed(&VOLUME_TYPES.map(|known| known.name)))),
            });
        }
        found
    });
    // gp3 is what is made where no type is said, so its limits hold then, but for the size, which the local
    // store has no limit for.
    let said = kind.is_none().then_some(&VOLUME_TYPES[0]).or(known);
    if let (Some(size), Some(known)) = (&size, known) {
        let gib = size.value.div_ceil(1 << 30);
        if gib > known.gib.1 || gib < known.gib.0 {
            let (least, most) = known.gib;
            complaints.push(Complaint::new(
                format!("a {} volume has {least} to {most} GiB", known.name),
                size.span.clone(),
            ));
        }
    }
    if let Some(size) = &size
        && size.value == 0
    {
        complaints.push(Complaint::new("a disk of no size", size.span.clone()));
    }
    if let (Some(iops), Some(said)) = (&iops, said) {
        match said.iops {
            Some((least, most)) if !(least..=most).contains(&iops.value) => complaints.push(
                Complaint::new(format!("`iops` of {} is {least} to {most}", said.name), iops.span.clone())
                    .label("operations a second"),
            ),
            Some(_) => {}
            None => complaints.push(
                Complaint::new(format!("{} takes no `iops`", said.name), iops.span.clone()).help("gp3 does"),
            ),
        }
    }
    if let (None, Some(known), Some(kind)) = (&iops, known, &kind)
        && known.name.starts_with("io")
    {
        complaints.missing(Complaint::new(
            format!("a volume of type {} needs `iops`", known.name),
            kind.span.clone(),
        ));
    }
    if let (Some(throughput), Some(said)) = (&throughput, said) {
        if said.name != "gp3" {
            complaints.push(
                Complaint::new(format!("{} takes no `throughput`", said.name), throughput.span.clone())
                    .help("gp3 does"),
            );
        } else if !(125..=2_000).contains(&throughput.value) {
            complaints.push(
                Complaint::new("`throughput` of gp3 is 125 to 2000", throughput.span.clone())
                    .label("MiB a second"),
            );
        }
    }
    if let Some(partition) = &partition
        && !(1..=128).contains(&partition.value)
    {
        complaints.push(Complaint::new("`partition` is 1 to 128", partition.span.clone()));
    }
    let small = |number: Option<Spanned<i64>>| number.and_then(|number| u32::try_from(number.value).ok());
    DiskSpec {
        size: size.map(|size| size.value),
        volume_type: kind.map(|kind| kind.value),
        iops: small(iops),
        throughput: small(throughput),
        partition: small(partition),
    }
}
