//! An image's shape in words: what a dry run shows of it, each line beside what the base has.

use super::shape::{Ebs, Mapping, Shape};
use super::{BaseFacts, DiskPlan};
use crate::recipe::units::show_size;

/// Key and value of each line.
pub(super) fn rows(base: &BaseFacts, image: &Shape) -> Vec<(String, String)> {
    let old = base.shape();
    let is_image = base.image.is_some();
    let beside = |new: String, old: Option<String>| match old {
        Some(old) if old == new && is_image => format!("{new} (inherited)"),
        Some(old) if old == new => new,
        Some(old) => format!("{new} (base: {old})"),
        None if is_image => format!("{new} (base: none)"),
        None => new,
    };
    let mut rows = Vec::new();
    let mut row = |key: &str, value: String| rows.push((key.to_owned(), value));
    if let Some(root) = image.root() {
        row("root", beside(mapping(&unnamed(root)), old.root().map(|root| mapping(&unnamed(root)))));
    }
    for device in image.others() {
        row("device", beside(mapping(device), old.mapping(&device.device_name).map(mapping)));
    }
    for dropped in old.others().filter(|device| image.mapping(&device.device_name).is_none()) {
        row("device", format!("{} dropped (base: {})", dropped.device_name, mapping(dropped)));
    }
    let flag = |flag: Option<bool>| flag.map(|on| if on { "yes" } else { "no" }.to_owned());
    let bytes = |data: &String| data.trim_end_matches('=').len() * 3 / 4;
    let data = |shape: &Shape| shape.uefi_data.as_ref().map(|data| format!("{} bytes", bytes(data)));
    let text = |text: &Option<String>| text.clone();
    let mut differs = [
        ("boot mode", text(&image.boot_mode), text(&old.boot_mode)),
        ("UEFI data", data(image), data(&old)),
        ("TPM", text(&image.tpm_support), text(&old.tpm_support)),
        ("IMDS", text(&image.imds_support), text(&old.imds_support)),
        ("ENA", flag(image.ena_support), flag(old.ena_support)),
        ("SR-IOV", text(&image.sriov_net_support), text(&old.sriov_net_support)),
    ];
    if let (Some((_, Some(new), Some(_))), true) = (differs.get_mut(1), image.uefi_data != old.uefi_data) {
        new.push_str(", other ones");
    }
    for (key, new, old) in differs {
        if new.is_some() || old.is_some() {
            row(key, beside(new.unwrap_or_else(|| "none".to_owned()), old));
        }
    }
    if let Some(platform) = &old.platform_details {
        let usage = old.usage_operation.as_deref().unwrap_or("unknown");
        row("billing", format!("{platform} ({usage}), compared once it is registered"));
    }
    rows
}

/// The root's mapping without its snapshot: the new image's is yet to be made.
fn unnamed(root: &Mapping) -> Mapping {
    let ebs = root.ebs.clone().map(|ebs| Ebs { snapshot_id: None, ..ebs });
    Mapping { ebs, ..root.clone() }
}

/// A mapping in words.
fn mapping(mapping: &Mapping) -> String {
    let what = match (&mapping.ebs, &mapping.virtual_name) {
        (Some(ebs), _) => volume(ebs),
        (None, Some(store)) => format!("instance store {store}"),
        (None, None) => "suppressed".to_owned(),
    };
    format!("{}, {what}", mapping.device_name)
}

fn volume(ebs: &Ebs) -> String {
    let gib = ebs.volume_size.and_then(|gib| u64::try_from(gib).ok());
    let size = gib.map(|gib| show_size(gib.saturating_mul(1 << 30)));
    let stays = (ebs.delete_on_termination == Some(false)).then(|| "stays on termination".to_owned());
    let parts = [
        size,
        ebs.volume_type.clone(),
        ebs.iops.map(|iops| format!("{iops} IOPS")),
        ebs.throughput.map(|throughput| format!("{throughput} MiB/s")),
        ebs.snapshot_id.as_ref().map(|snapshot| format!("of {snapshot}")),
        (ebs.encrypted == Some(true)).then(|| "encrypted".to_owned()),
        stays,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The bake's own volume in words.
pub(super) fn disk(disk: &DiskPlan, base: &BaseFacts, on_ec2: bool) -> String {
    let mut text = show_size(disk.size);
    if base.given.is_some() {
        return format!("{text}, {} itself", base.id());
    }
    let baking = disk.spec.while_baking();
    if on_ec2 {
        let parts = [
            baking.volume_type,
            baking.iops.map(|iops| format!("{iops} IOPS")),
            baking.throughput.map(|throughput| format!("{throughput} MiB/s")),
            baking.initialization_rate.map(|rate| format!("loaded at {rate} MiB/s")),
            match &disk.spec.kms_key {
                Some(key) => Some(format!("encrypted under {key}")),
                None => (disk.spec.encrypted == Some(true)).then(|| "encrypted".to_owned()),
            },
        ];
        for part in parts.into_iter().flatten() {
            text.push_str(&format!(", {part}"));
        }
    }
    if disk.scratch.is_some() {
        text.push_str(", blank");
    } else if disk.size > base.size {
        text.push_str(&format!(" (grown from {})", show_size(base.size)));
    }
    text
}
