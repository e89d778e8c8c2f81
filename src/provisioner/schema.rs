//! `[params]` of a definition: which parameters there are, and of which types.

use std::collections::BTreeMap;

use super::check::plain_value;
use super::define::is_word;
use super::definition::{Param, ParamType, PathKind};
use super::form::{Given, Pattern};
use super::format::{KNOWN, is_format};
use crate::recipe::reader::{Complaints, Table, did_you_mean, listed, shown, strings, unknown_key};
use crate::recipe::{Complaint, RawValue, STEP_KEYS, Spanned};

const TYPES: [&str; 13] = [
    "bool", "integer", "string", "enum", "duration", "mode", "inside", "path", "list", "map", "argv",
    "packages", "tables",
];

/// `[params]`.
pub(super) fn params(top: &mut Table, complaints: &mut Complaints) -> BTreeMap<String, Param> {
    match top.table("params", complaints) {
        Some(table) => schema(&table, true, complaints),
        None => BTreeMap::new(),
    }
}

fn schema(table: &Table, outer: bool, complaints: &mut Complaints) -> BTreeMap<String, Param> {
    let mut params = BTreeMap::new();
    let names: Vec<&str> = table.all().iter().map(|(name, _)| name.value.as_str()).collect();
    for (name, value) in table.all() {
        if !is_word(&name.value, '_') {
            complaints.push(
                Complaint::new(
                    format!("`{}` is no name of a parameter", shown(&name.value)),
                    name.span.clone(),
                )
                .help("lower-case letters, digits and `_`, a letter first"),
            );
        } else if outer && STEP_KEYS.contains(&name.value.as_str()) {
            let message =
                format!("`{}` is a key of every step, so no parameter can have its name", name.value);
            complaints.push(Complaint::new(message, name.span.clone()));
        }
        let what = format!("[params.{}]", shown(&name.value));
        let Some(table) = Table::of(what, value, complaints) else { continue };
        if let Some(param) = param(name, table, &names, outer, complaints) {
            params.insert(name.value.clone(), param);
        }
    }
    params
}

fn param(
    name: &Spanned<String>,
    mut table: Table,
    names: &[&str],
    outer: bool,
    complaints: &mut Complaints,
) -> Option<Param> {
    if table.get("type").is_none() {
        let message = format!("the parameter `{}` has no `type`", shown(&name.value));
        complaints
            .missing(Complaint::new(message, name.span.clone()).help(format!("one of {}", listed(&TYPES))));
    }
    let word = one_of("type", &TYPES, &mut table, complaints);
    let kind = match &word {
        Some(word) if !outer && ["packages", "tables"].contains(&word.value.as_str()) => {
            complaints.push(Complaint::new(
                format!("a key of `tables` can't have the type `{}`", word.value),
                word.span.clone(),
            ));
            None
        }
        Some(word) => kind(word, &mut table, complaints),
        None => {
            // Keys that belong to some type are not unknown while the type is.
            for key in [
                "values",
                "min",
                "max",
                "kind",
                "executable",
                "formats",
                "item",
                "pattern",
                "keys",
                "form",
                "at_least_one",
                "disjoint",
                "unique",
            ] {
                table.get(key);
            }
            None
        }
    };
    let doc = table.string("doc", complaints).map(|doc| doc.value);
    let required = table.bool("required", complaints).unwrap_or(false);
    let others = |key: &str, table: &mut Table, complaints: &mut Complaints| -> Vec<Given> {
        let others = table.strings(key, complaints).unwrap_or_default();
        let named = others.into_iter().map(|other| given(&other, Some(&name.value), names, complaints));
        named.collect()
    };
    let conflicts = others("conflicts", &mut table, complaints);
    let disjoint = match kind {
        Some(ParamType::List { .. }) => others("disjoint", &mut table, complaints),
        _ => Vec::new(),
    };
    let unique = match kind {
        Some(ParamType::String { .. }) if !outer => table.bool("unique", complaints).unwrap_or(false),
        _ => false,
    };
    let default = table.entry("default").and_then(|(key, value)| {
        if required {
            complaints
                .push(Complaint::new("a required parameter has no use for a `default`", key.span.clone()));
        }
        plain_value("`default`", kind.as_ref()?, value, complaints)
    });
    table.finish(complaints);
    let disjoint = disjoint.into_iter().map(|other| other.name).collect();
    Some(Param { kind: kind?, doc, required, default, conflicts, disjoint, unique })
}

/// A parameter that is named, perhaps with a value; complains where there is none but `own`.
fn given(text: &Spanned<String>, own: Option<&str>, names: &[&str], complaints: &mut Complaints) -> Given {
    let given = Given::read(&text.value);
    if own == Some(&given.name) || !names.contains(&given.name.as_str()) {
        let name = Spanned { value: given.name.clone(), span: text.span.clone() };
        complaints.push(unknown_parameter(&name, names));
    }
    given
}

/// `at_least_one`, of parameters of these names.
pub(super) fn groups(top: &mut Table, names: &[&str], complaints: &mut Complaints) -> Vec<Vec<Given>> {
    let Some(value) = top.get("at_least_one") else { return Vec::new() };
    let RawValue::Array(items) = &value.value else {
        complaints.push(
            Complaint::new("`at_least_one` must be a list of lists", value.span.clone())
                .help("write [[\"one\", \"other\"]]"),
        );
        return Vec::new();
    };
    let mut groups = Vec::new();
    for item in items {
        let group = strings("a group of `at_least_one`", item, complaints).unwrap_or_default();
        groups.push(group.iter().map(|text| given(text, None, names, complaints)).collect());
    }
    groups
}

/// A complaint about a name that should be another parameter's.
pub(super) fn unknown_parameter(name: &Spanned<String>, names: &[&str]) -> Complaint {
    let mut complaint = unknown_key(name, "[params]", names);
    complaint.message = format!("there is no other parameter `{}`", shown(&name.value));
    complaint
}

/// The type that `word` names, with what belongs to it.
fn kind(word: &Spanned<String>, table: &mut Table, complaints: &mut Complaints) -> Option<ParamType> {
    Some(match word.value.as_str() {
        "bool" => ParamType::Bool,
        "integer" => {
            let min = table.integer("min", complaints).map(|min| min.value);
            let max = table.integer("max", complaints);
            if let (Some(min), Some(max)) = (min, &max)
                && min > max.value
            {
                complaints.push(Complaint::new("`max` is less than `min`", max.span.clone()));
            }
            ParamType::Integer { min, max: max.map(|max| max.value) }
        }
        "string" => ParamType::String { pattern: Pattern::read("pattern", table, complaints) },
        "enum" => {
            let values = table.strings("values", complaints).unwrap_or_default();
            if values.is_empty() {
                complaints.missing(
                    Complaint::new("an `enum` needs its `values`", word.span.clone())
                        .help("add values = [\"one\", \"two\"]"),
                );
            }
            ParamType::Enum(values.into_iter().map(|value| value.value).collect())
        }
        "duration" => ParamType::Duration,
        "mode" => ParamType::Mode,
        "inside" => ParamType::Inside,
        "path" => {
            let kind = one_of("kind", &["any", "file", "folder"], table, complaints);
            let kind = match kind.as_ref().map(|kind| kind.value.as_str()) {
                Some("file") => PathKind::File,
                Some("folder") => PathKind::Folder,
                _ => PathKind::Any,
            };
            ParamType::Path { kind, executable: table.bool("executable", complaints).unwrap_or(false) }
        }
        "list" => ParamType::List {
            pattern: Pattern::read("pattern", table, complaints),
            min: table.integer("min", complaints).map(|min| min.value),
        },
        "map" => ParamType::Map { keys: Pattern::read("keys", table, complaints) },
        "argv" => ParamType::Argv,
        "packages" => {
            let formats = table.strings("formats", complaints);
            for format in formats.iter().flatten() {
                if !is_format(&format.value) {
                    complaints.push(
                        Complaint::new(
                            format!("`{}` is no format of package files", shown(&format.value)),
                            format.span.clone(),
                        )
                        .help("how their names end, in lower case and without the dot: `deb`, `apk`, `pkg.tar.zst`"),
                    );
                }
            }
            let formats = formats.map(|formats| formats.into_iter().map(|format| format.value).collect());
            ParamType::Packages { formats: formats.unwrap_or_else(|| KNOWN.map(str::to_owned).into()) }
        }
        _ => {
            let items = table.table("item", complaints);
            if items.is_none() && table.get("item").is_none() {
                complaints.missing(
                    Complaint::new("`tables` needs its items' keys", word.span.clone())
                        .help("add [params.NAME.item.KEY] with a type"),
                );
            }
            let items = items.map(|items| schema(&items, false, complaints)).unwrap_or_default();
            let names: Vec<&str> = items.keys().map(String::as_str).collect();
            let at_least_one = groups(table, &names, complaints);
            ParamType::Tables { items, at_least_one }
        }
    })
}

/// A string that must be one of a few words.
pub(super) fn one_of(
    key: &str,
    words: &[&str],
    table: &mut Table,
    complaints: &mut Complaints,
) -> Option<Spanned<String>> {
    let word = table.string(key, complaints)?;
    if words.contains(&word.value.as_str()) {
        return Some(word);
    }
    let complaint = Complaint::new(format!("`{key}` can't be `{}`", shown(&word.value)), word.span.clone());
    complaints.push(match did_you_mean(&word.value, words) {
        Some(near) => complaint.help(format!("did you mean `{near}`?")),
        None => complaint.help(format!("known are {}", listed(words))),
    });
    None
}
