//! `[base] filters`: DescribeImages' own, by their names.

use std::collections::BTreeMap;

use super::reader::{Complaints, Table, did_you_mean, shown, wrong_type};
use super::{Complaint, RawValue, Spanned};

/// The filters that DescribeImages documents, for what may be meant. One that is like none of these is EC2's to judge.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html>
const KNOWN: [&str; 37] = [
    "architecture",
    "block-device-mapping.delete-on-termination",
    "block-device-mapping.device-name",
    "block-device-mapping.encrypted",
    "block-device-mapping.snapshot-id",
    "block-device-mapping.volume-size",
    "block-device-mapping.volume-type",
    "creation-date",
    "description",
    "ena-support",
    "free-tier-eligible",
    "hypervisor",
    "image-allowed",
    "image-id",
    "image-type",
    "is-public",
    "kernel-id",
    "manifest-location",
    "name",
    "owner-alias",
    "owner-id",
    "platform",
    "platform-details",
    "product-code",
    "product-code.type",
    "ramdisk-id",
    "root-device-name",
    "root-device-type",
    "source-image-id",
    "source-image-region",
    "source-instance-id",
    "sriov-net-support",
    "state",
    "state-reason-code",
    "state-reason-message",
    "tag-key",
    "virtualization-type",
];

/// A filter takes at most this many values.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html>
const VALUES: usize = 200;

/// `filters`: name to values. `named` and `arch` say whether those keys of [base] are there.
pub(super) fn filters(
    table: &mut Table,
    named: bool,
    arch: bool,
    complaints: &mut Complaints,
) -> Option<BTreeMap<String, Vec<String>>> {
    let value = table.get("filters")?;
    let RawValue::Table(entries) = &value.value else {
        complaints.push(wrong_type("`filters`", "a table", &value.value, value.span.clone()));
        return None;
    };
    if entries.is_empty() {
        complaints.push(
            Complaint::new("`filters` has no filter", value.span.clone())
                .help("write filters = { \"tag:team\" = \"web\" }, or leave it out"),
        );
    }
    let mut read = BTreeMap::new();
    for (name, value) in entries {
        check_name(name, value, named, arch, complaints);
        read.insert(name.value.clone(), values(name, value, complaints));
    }
    Some(read)
}

fn check_name(
    name: &Spanned<String>,
    value: &Spanned<RawValue>,
    named: bool,
    arch: bool,
    complaints: &mut Complaints,
) {
    let text = name.value.as_str();
    let complain = |message: String, help: String| Complaint::new(message, name.span.clone()).help(help);
    let complaint = match text {
        "tag" | "block-device-mapping" | "product-code" if matches!(value.value, RawValue::Table(_)) => {
            let joint = if text == "tag" { ':' } else { '.' };
            let RawValue::Table(inner) = &value.value else { return };
            let first = inner.first().map_or("NAME", |(key, _)| key.value.as_str());
            let help = format!("quote the whole name: \"{text}{joint}{}\"", shown(first));
            complain(format!("`{text}` is a table: the name's second half is a key of its own"), help)
        }
        "state" => complain(
            "a base is always `available`: `state` can't be a filter".to_owned(),
            "leave it out".to_owned(),
        ),
        "name" if named => complain(
            "the filter `name` and [base] `name` say the same".to_owned(),
            "leave one of them; a filter takes several names".to_owned(),
        ),
        "architecture" if arch => complain(
            "the filter `architecture` and [base] `arch` say the same".to_owned(),
            "leave one of them".to_owned(),
        ),
        _ if KNOWN.contains(&text) => return,
        _ if text.strip_prefix("tag:").is_some_and(|key| !key.is_empty()) => return,
        _ => match did_you_mean(text, &KNOWN) {
            Some(near) => {
                complain(format!("unknown filter `{}`", shown(text)), format!("did you mean `{near}`?"))
            }
            None if is_word(text) => return,
            None => complain(
                format!("`{}` can't be a filter of DescribeImages", shown(text)),
                "filters are named as \"root-device-type\", \"tag-key\" or \"tag:KEY\"".to_owned(),
            ),
        },
    };
    complaints.push(complaint);
}

/// Small letters and digits, with `-` and `.` in between: how EC2 names filters.
fn is_word(text: &str) -> bool {
    text.split(['-', '.']).all(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// One value or a list of them.
fn values(name: &Spanned<String>, value: &Spanned<RawValue>, complaints: &mut Complaints) -> Vec<String> {
    let called = format!("the filter `{}`", shown(&name.value));
    let items = match &value.value {
        RawValue::Array(items) => items.as_slice(),
        // Told already.
        RawValue::Table(_) => return Vec::new(),
        _ => std::slice::from_ref(value),
    };
    if items.is_empty() || items.len() > VALUES {
        let how = if items.is_empty() { "no value".to_owned() } else { format!("{} values", items.len()) };
        complaints.push(
            Complaint::new(format!("{called} has {how}"), value.span.clone())
                .help(format!("it takes 1 to {VALUES}")),
        );
    }
    let mut texts = Vec::new();
    for item in items {
        match &item.value {
            RawValue::String(text) if text.contains('\0') => {
                complaints.push(Complaint::new(format!("{called} holds a NUL character"), item.span.clone()))
            }
            RawValue::String(text) => texts.push(text.clone()),
            RawValue::Integer(number) => texts.push(number.to_string()),
            RawValue::Boolean(yes) => texts.push(yes.to_string()),
            other => complaints.push(wrong_type(
                &called,
                "a string, or a list of strings",
                other,
                item.span.clone(),
            )),
        }
    }
    texts
}
