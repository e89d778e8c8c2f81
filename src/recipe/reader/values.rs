//! The values of a table, each of the type that is wanted or a complaint.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::vars::is_name;
use super::super::{Complaint, RawValue, Spanned, units};
use super::{Complaints, Table, shown};

/// A complaint about a value of the wrong type.
pub(crate) fn wrong_type(what: &str, wanted: &str, found: &RawValue, span: Range<usize>) -> Complaint {
    Complaint::new(format!("{what} is {}; it must be {wanted}", found.type_name()), span)
        .label(format!("must be {wanted}"))
}

/// A string without NUL. An integer or a boolean that a variable put in place of a string is taken too.
pub(crate) fn string(
    what: &str,
    value: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Spanned<String>> {
    match &value.value {
        RawValue::String(text) if text.contains('\0') => {
            complaints.push(Complaint::new(format!("{what} holds a NUL character"), value.span.clone()));
            None
        }
        RawValue::String(text) => Some(Spanned { value: text.clone(), span: value.span.clone() }),
        RawValue::Integer(number) if complaints.is_quoted(&value.span) => {
            Some(Spanned { value: number.to_string(), span: value.span.clone() })
        }
        RawValue::Boolean(said) if complaints.is_quoted(&value.span) => {
            Some(Spanned { value: said.to_string(), span: value.span.clone() })
        }
        other => {
            complaints.push(wrong_type(what, "a string", other, value.span.clone()));
            None
        }
    }
}

/// A boolean.
pub(crate) fn bool(what: &str, value: &Spanned<RawValue>, complaints: &mut Complaints) -> Option<bool> {
    match &value.value {
        RawValue::Boolean(value) => Some(*value),
        other => {
            complaints.push(wrong_type(what, "true or false", other, value.span.clone()));
            None
        }
    }
}

/// An integer.
pub(crate) fn integer(
    what: &str,
    value: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Spanned<i64>> {
    match &value.value {
        RawValue::Integer(number) => Some(Spanned { value: *number, span: value.span.clone() }),
        other => {
            complaints.push(wrong_type(what, "an integer", other, value.span.clone()));
            None
        }
    }
}

/// A size in bytes.
pub(crate) fn size(
    what: &str,
    value: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Spanned<u64>> {
    unit(what, "a size such as \"8GiB\"", units::parse_size, value, complaints)
}

/// A duration in seconds.
pub(crate) fn duration(
    what: &str,
    value: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Spanned<u64>> {
    unit(what, "a duration such as \"90s\" or \"5m\"", units::parse_duration, value, complaints)
}

fn unit(
    what: &str,
    wanted: &str,
    parse: fn(&str) -> Result<u64, String>,
    value: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Spanned<u64>> {
    let complaint = match &value.value {
        RawValue::String(text) => match parse(text) {
            Ok(number) => return Some(Spanned { value: number, span: value.span.clone() }),
            Err(why) => Complaint::new(format!("{what}: {why}"), value.span.clone())
                .help(format!("{what} must be {wanted}")),
        },
        other => wrong_type(what, wanted, other, value.span.clone()),
    };
    complaints.push(complaint);
    None
}

/// A list of strings; complains of each item that is none and leaves it out.
pub(crate) fn strings(
    what: &str,
    value: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Vec<Spanned<String>>> {
    match &value.value {
        RawValue::Array(items) => {
            let item_name = format!("an item of {what}");
            Some(items.iter().filter_map(|item| string(&item_name, item, complaints)).collect())
        }
        other => {
            complaints.push(wrong_type(what, "a list of strings", other, value.span.clone()));
            None
        }
    }
}

/// A map of strings; complains of each value that is none and leaves it out.
pub(crate) fn map(
    what: &str,
    value: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
    match &value.value {
        RawValue::Table(entries) => {
            let read = entries.iter().filter_map(|(key, value)| {
                let what = format!("`{}` of {what}", shown(&key.value));
                string(&what, value, complaints).map(|value| (key.clone(), value))
            });
            Some(read.collect())
        }
        other => {
            complaints.push(wrong_type(what, "a table of strings", other, value.span.clone()));
            None
        }
    }
}

/// Environment variables, checked.
pub(crate) fn environment(table: &mut Table, complaints: &mut Complaints) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (key, value) in table.map("env", complaints).unwrap_or_default() {
        if is_name(&key.value) {
            env.insert(key.value, value.value);
        } else {
            complaints.push(
                Complaint::new(format!("`{}` is no name of a variable", shown(&key.value)), key.span)
                    .help("letters, digits and `_`, and no digit first"),
            );
        }
    }
    env
}

/// Complains unless `text` is an absolute path inside an image.
pub(crate) fn inside_path(what: &str, text: &Spanned<String>, complaints: &mut Complaints) -> bool {
    let why = if !text.value.starts_with('/') {
        "must be an absolute path in the image"
    } else if text.value.split('/').any(|part| part == "..") {
        "must not hold `..`"
    } else if text.value.contains('\n') {
        "must not hold a line break"
    } else {
        return true;
    };
    complaints.push(Complaint::new(format!("{what} {why}"), text.span.clone()));
    false
}
