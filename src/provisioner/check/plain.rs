//! Values that need nothing of the builder.

use std::collections::BTreeMap;

use super::super::Value;
use super::super::definition::ParamType;
use super::super::form::Pattern;
use crate::recipe::reader::{
    Complaints, bool, did_you_mean, duration, inside_path, integer, listed, map, shown, string, strings,
};
use crate::recipe::{Complaint, RawValue, Spanned};

/// A value that needs nothing of the builder: a definition's default.
pub(in crate::provisioner) fn plain_value(
    what: &str,
    kind: &ParamType,
    raw: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Value> {
    match kind {
        ParamType::Path { .. } | ParamType::Packages { .. } | ParamType::Tables { .. } | ParamType::Argv => {
            complaints
                .push(Complaint::new(format!("a parameter of this type has no {what}"), raw.span.clone()));
            None
        }
        kind => plain(what, kind, raw, complaints),
    }
}

/// The types that need nothing of the builder; none, without a complaint, for the others.
pub(super) fn plain(
    what: &str,
    kind: &ParamType,
    raw: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Value> {
    match kind {
        ParamType::Bool => bool(what, raw, complaints).map(Value::Bool),
        ParamType::Integer { min, max } => {
            let number = integer(what, raw, complaints)?;
            let limit = match (min, max) {
                (Some(min), _) if number.value < *min => format!("at least {min}"),
                (_, Some(max)) if number.value > *max => format!("at most {max}"),
                _ => return Some(Value::Integer(number.value)),
            };
            complaints.push(Complaint::new(format!("{what} must be {limit}"), number.span));
            None
        }
        ParamType::String { pattern } => {
            let text = string(what, raw, complaints)?;
            fits(what, pattern, &text, complaints).then_some(Value::String(text.value))
        }
        // `upgrade = true` where the words are `true`, `false` and more.
        ParamType::Enum(values) if matches!(raw.value, RawValue::Boolean(value) if values.contains(&value.to_string())) =>
        {
            let RawValue::Boolean(value) = raw.value else { return None };
            Some(Value::String(value.to_string()))
        }
        ParamType::Enum(values) => {
            let word = string(what, raw, complaints)?;
            if values.contains(&word.value) {
                return Some(Value::String(word.value));
            }
            let known: Vec<&str> = values.iter().map(String::as_str).collect();
            let complaint = Complaint::new(format!("{what} can't be `{}`", shown(&word.value)), word.span);
            complaints.push(match did_you_mean(&word.value, &known) {
                Some(near) => complaint.help(format!("did you mean `{near}`?")),
                None => complaint.help(format!("known are {}", listed(&known))),
            });
            None
        }
        ParamType::Duration => {
            let seconds = duration(what, raw, complaints)?;
            Some(Value::Integer(i64::try_from(seconds.value).unwrap_or(i64::MAX)))
        }
        ParamType::Mode => {
            let text = string(what, raw, complaints)?;
            if is_mode(&text.value) {
                return Some(Value::String(text.value));
            }
            complaints.push(
                Complaint::new(format!("{what} is no mode"), text.span)
                    .help("octal such as \"0644\", or as chmod takes it: \"u=rwX,go=rX\""),
            );
            None
        }
        ParamType::Inside => {
            let text = string(what, raw, complaints)?;
            inside_path(what, &text, complaints).then_some(Value::String(text.value))
        }
        ParamType::List { pattern, min } => {
            let items = strings(what, raw, complaints)?;
            let at_least = min.and_then(|min| usize::try_from(min).ok()).unwrap_or_default();
            // Those that are none are told as such.
            if matches!(&raw.value, RawValue::Array(written) if written.len() < at_least) {
                let message = format!("{what} needs {at_least} item{}", if at_least == 1 { "" } else { "s" });
                complaints.push(Complaint::new(message, raw.span.clone()));
            }
            let item_name = format!("an item of {what}");
            let items = items.into_iter().filter_map(|item| {
                let item = without_breaks(what, item, complaints)?;
                fits(&item_name, pattern, &item, complaints).then_some(item)
            });
            Some(Value::List(items.map(|item| Value::String(item.value)).collect()))
        }
        ParamType::Map { keys } => {
            let entries = map(what, raw, complaints)?;
            let mut checked = BTreeMap::new();
            for (key, value) in entries {
                if key.value.is_empty() || key.value.contains(['=', '\n', '\0']) {
                    let message = format!("a key of {what} is empty or holds `=`, a line break or NUL");
                    complaints.push(Complaint::new(message, key.span));
                } else if fits(&format!("a key of {what}"), keys, &key, complaints)
                    && let Some(value) = without_breaks(what, value, complaints)
                {
                    checked.insert(key.value, Value::String(value.value));
                }
            }
            Some(Value::Map(checked))
        }
        ParamType::Argv => {
            let words = strings(what, raw, complaints)?;
            if words.first().is_none_or(|first| first.value.is_empty()) {
                complaints.push(
                    Complaint::new(format!("{what} names no program"), raw.span.clone())
                        .help("the program and its arguments, each a string: [\"nginx\", \"-t\"]"),
                );
                return None;
            }
            Some(Value::List(words.into_iter().map(|word| Value::String(word.value)).collect()))
        }
        ParamType::Path { .. } | ParamType::Packages { .. } | ParamType::Tables { .. } => None,
    }
}

/// Complains unless the text matches the pattern, where there is one.
fn fits(what: &str, pattern: &Option<Pattern>, text: &Spanned<String>, complaints: &mut Complaints) -> bool {
    pattern.as_ref().is_none_or(|pattern| pattern.fits(what, text, complaints))
}

/// The text, where it has no line break: parameters reach scripts a line an item.
fn without_breaks(what: &str, text: Spanned<String>, complaints: &mut Complaints) -> Option<Spanned<String>> {
    if text.value.contains('\n') {
        complaints.push(Complaint::new(format!("an item of {what} holds a line break"), text.span));
        return None;
    }
    Some(text)
}

/// Octal, or symbolic as chmod takes it.
fn is_mode(text: &str) -> bool {
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let clause = |clause: &str| {
        let action = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let mut actions = 0;
        let mut rest = action;
        while let Some(after) = rest.strip_prefix(['+', '-', '=']) {
            let end = after.find(['+', '-', '=']).unwrap_or(after.len());
            let (bits, next) = after.split_at(end);
            if !bits.chars().all(|bit| "rwxXst".contains(bit)) && !matches!(bits, "u" | "g" | "o") {
                return false;
            }
            actions += 1;
            rest = next;
        }
        actions > 0 && rest.is_empty()
    };
    octal || text.split(',').all(clause)
}
