//! What a definition says of parameters beside each other, held against a recipe's table.

use std::collections::BTreeMap;

use super::super::definition::Param;
use super::super::form::{Given, any_of, text};
use crate::recipe::reader::{Complaints, Table, shown};
use crate::recipe::{Complaint, RawValue, Spanned};

/// Complains of parameters that can't stand beside others, and of items that are in a list too many.
pub(super) fn beside(schema: &BTreeMap<String, Param>, table: &mut Table, complaints: &mut Complaints) {
    for (name, param) in schema {
        let Some((key, raw)) = table.entry(name) else { continue };
        for other in &param.conflicts {
            // Told at the one of the two that stands behind, so once, whichever of them says so.
            if let Some((first, value)) = table.entry(&other.name)
                && other.holds(Some(value), complaints) == Some(true)
            {
                let own = Given { name: name.clone(), glob: None };
                let (early, late, span) = match first.span.start < key.span.start {
                    true => (other, &own, &key.span),
                    false => (&own, other, &first.span),
                };
                let message = format!("{late} can't stand beside {early}");
                complaints.push(Complaint::new(message, span.clone()).help("leave one of them"));
            }
        }
        for other in &param.disjoint {
            let both = table.get(other).map(|other| twice(raw, other)).unwrap_or_default();
            for item in both {
                let shown_item = text(&item.value).map(|text| shown(&text)).unwrap_or_default();
                let message = format!("`{shown_item}` is in both `{name}` and `{other}`");
                complaints.push(Complaint::new(message, item.span.clone()).help("leave one of them"));
            }
        }
    }
}

/// Those of two lists' items that are in both, as they stand in the one behind.
fn twice<'v>(one: &'v Spanned<RawValue>, other: &'v Spanned<RawValue>) -> Vec<&'v Spanned<RawValue>> {
    let (first, second) = if one.span.start < other.span.start { (one, other) } else { (other, one) };
    let (RawValue::Array(first), RawValue::Array(second)) = (&first.value, &second.value) else {
        return Vec::new();
    };
    second.iter().filter(|item| first.iter().any(|known| known.value == item.value)).collect()
}

/// Complains of a group of parameters of which none is given, by `complaint`, which is told the group.
pub(in crate::provisioner) fn missing(
    groups: &[Vec<Given>],
    table: &mut Table,
    complaints: &mut Complaints,
    complaint: impl Fn(&str) -> Complaint,
) {
    for group in groups {
        let none = group.iter().all(|one| one.holds(table.get(&one.name), complaints) == Some(false));
        if none {
            complaints.missing(complaint(&any_of(group)));
        }
    }
}

/// Complains of values that two of a list's tables have, and no two may.
pub(super) fn repeated(
    what: &str,
    schema: &BTreeMap<String, Param>,
    items: &[Spanned<RawValue>],
    complaints: &mut Complaints,
) {
    for name in schema.iter().filter(|(_, param)| param.unique).map(|(name, _)| name) {
        let mut known = Vec::new();
        for item in items {
            let RawValue::Table(entries) = &item.value else { continue };
            let Some((_, value)) = entries.iter().find(|(key, _)| key.value == *name) else { continue };
            let Some(said) = text(&value.value) else { continue };
            if known.contains(&said) {
                let message = format!("two items of {what} have the {name} `{}`", shown(&said));
                complaints.push(Complaint::new(message, value.span.clone()).help("give one of them another"));
            } else {
                known.push(said);
            }
        }
    }
}
