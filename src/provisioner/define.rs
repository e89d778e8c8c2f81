//! `provisioner.toml` to a [`Definition`].

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::ScriptFile;
use super::around::{caches, hints, programs, temporary};
use super::definition::{Choice, Definition, Param, ParamType, PathKind, Runs};
use super::form::Given;
use super::schema::{groups, one_of, params, unknown_parameter};
use crate::recipe::reader::{Complaints, Table, environment, listed, shown};
use crate::recipe::{Complaint, Source, Spanned};

/// What this program can do itself, for `[run] builtin`.
const BUILTINS: [&str; 1] = ["files"];

impl Definition {
    /// Reads a definition. `files` are all files of its folder, `origin` tells where that is.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(
        name: &str,
        origin: &str,
        source: &Source,
        files: Vec<ScriptFile>,
    ) -> Result<Self, Vec<Complaint>> {
        let mut complaints = Complaints::new(source);
        let entries = complaints.tree();
        let top = Table::new("the definition", 0..0, &entries);
        let definition = definition(name, origin, top, files, &mut complaints);
        complaints.finish(definition)
    }
}

fn definition(
    name: &str,
    origin: &str,
    mut top: Table,
    files: Vec<ScriptFile>,
    complaints: &mut Complaints,
) -> Option<Definition> {
    let summary = top.string("summary", complaints);
    match &summary {
        Some(summary) if summary.value.trim().is_empty() || summary.value.contains('\n') => {
            complaints.push(Complaint::new("`summary` is one line, not empty", summary.span.clone()));
        }
        None if top.get("summary").is_none() => {
            complaints.missing(Complaint::new("the definition has no `summary`", 0..0));
        }
        _ => {}
    }
    let place = one_of("where", &["inside", "host"], &mut top, complaints);
    let host = place.is_some_and(|place| place.value == "host");
    let programs = programs(host, &mut top, complaints);
    let params = params(&mut top, complaints);
    let names: Vec<&str> = params.keys().map(String::as_str).collect();
    let at_least_one = groups(&mut top, &names, complaints);
    let choices = choices(&mut top, complaints);
    if !choices.is_empty() {
        for key in [
            "run",
            "where",
            "programs",
            "env",
            "file",
            "cache",
            "hint",
            "package",
            "network",
            "suppress_sync",
            "timeout",
        ] {
            if let Some((name, _)) = top.entry(key) {
                complaints.push(
                    Complaint::new(format!("`{key}` can't stand beside [[choose]]"), name.span.clone())
                        .help("it is the chosen provisioner's to say"),
                );
            }
        }
    }
    let runs = match top.entry("run") {
        Some((_, value)) => {
            let table = Table::of("[run]", value, complaints);
            let runs = table.and_then(|table| runs(table, &files, &params, complaints));
            if host && let Some(Runs::Builtin(_)) = runs {
                complaints
                    .push(Complaint::new("a `builtin` does not run on the builder", value.span.clone()));
            }
            runs
        }
        None if choices.is_empty() => {
            complaints.missing(
                Complaint::new("the definition has no [run]", 0..0)
                    .help("add [run] with command = [\"./run\"]"),
            );
            None
        }
        None => Some(Runs::Choose(choices)),
    };
    let network = one_of("network", &["host", "none"], &mut top, complaints);
    let suppress_sync = top.bool("suppress_sync", complaints).unwrap_or(false);
    let timeout = top.duration("timeout", complaints).map(|timeout| timeout.value);
    let env = environment(&mut top, complaints);
    let temporary = temporary(&mut top, &files, complaints);
    if host && let Some((key, _)) = top.entry("cache") {
        complaints.push(
            Complaint::new(
                "[[cache]] is for what runs inside, and this runs on the builder",
                key.span.clone(),
            )
            .help("a program of the builder has the builder's own folders"),
        );
    }
    let caches = caches(&mut top, complaints);
    let hints = hints(&mut top, complaints);
    let package_query = top.table("package", complaints).and_then(|mut table| {
        let query = command("query", &mut table, &files, complaints);
        table.finish(complaints);
        query
    });
    top.finish(complaints);
    Some(Definition {
        name: name.to_owned(),
        origin: origin.to_owned(),
        summary: summary?.value,
        host,
        programs,
        network: network.map_or_else(|| "host".to_owned(), |network| network.value),
        suppress_sync,
        timeout,
        at_least_one,
        params,
        runs: runs?,
        env,
        temporary,
        caches,
        package_query,
        hints,
        digest: digest(&files),
        files,
    })
}

/// SHA-256 of all files with their paths and modes, hexadecimal.
fn digest(files: &[ScriptFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        let path = file.path.as_os_str().as_encoded_bytes();
        hash.update((path.len() as u64).to_be_bytes());
        hash.update(path);
        hash.update(file.mode.to_be_bytes());
        hash.update((file.content.len() as u64).to_be_bytes());
        hash.update(&file.content);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether it is of lower-case letters, digits and `separator`, a letter first.
pub(super) fn is_word(name: &str, separator: char) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == separator)
}

fn choices(top: &mut Table, complaints: &mut Complaints) -> Vec<Choice> {
    let mut choices = Vec::new();
    for mut table in top.tables("choose", complaints) {
        let ids = table.strings("id_like", complaints).unwrap_or_default();
        if ids.is_empty() {
            complaints.missing(Complaint::new("a choice needs its `id_like`", table.span.clone()));
        }
        let name = table.string("use", complaints);
        match &name {
            Some(name) if !is_word(&name.value, '-') => complaints.push(Complaint::new(
                format!("`{}` is no name of a provisioner", shown(&name.value)),
                name.span.clone(),
            )),
            None if table.get("use").is_none() => {
                complaints.missing(Complaint::new("a choice needs its `use`", table.span.clone()));
            }
            _ => {}
        }
        table.finish(complaints);
        if let Some(name) = name {
            let id_like = ids.into_iter().map(|id| id.value).collect();
            choices.push(Choice { id_like, provisioner: name.value });
        }
    }
    choices
}

fn runs(
    mut table: Table,
    files: &[ScriptFile],
    params: &BTreeMap<String, Param>,
    complaints: &mut Complaints,
) -> Option<Runs> {
    const KEYS: [&str; 3] = ["command", "parameter", "builtin"];
    let said: Vec<_> = KEYS.iter().filter_map(|key| table.entry(key)).map(|(key, _)| key).collect();
    if said.len() != 1 {
        let span = said.get(1).map_or(table.span.clone(), |key| key.span.clone());
        complaints.missing(Complaint::new(format!("[run] needs one of {}", listed(&KEYS)), span));
    }
    let command = command("command", &mut table, files, complaints);
    let names = table.strings("parameter", complaints);
    let arguments = table.string("arguments", complaints);
    let builtin = one_of("builtin", &BUILTINS, &mut table, complaints);
    table.finish(complaints);
    let known: Vec<&str> = params.keys().map(String::as_str).collect();
    for name in names.iter().flatten() {
        match params.get(&name.value).map(|param| &param.kind) {
            Some(ParamType::Argv | ParamType::Path { kind: PathKind::File, .. }) => {}
            Some(_) => complaints.push(
                Complaint::new(format!("`{}` can't be run", name.value), name.span.clone())
                    .help("a parameter that is run has the type `argv`, or `path` with kind = \"file\""),
            ),
            None => complaints.push(unknown_parameter(name, &known)),
        }
    }
    for (index, one) in names.iter().flatten().enumerate() {
        for other in names.iter().flatten().skip(index + 1) {
            let says = |one: &str, other: &str| {
                let other = Given { name: other.to_owned(), glob: None };
                params.get(one).is_some_and(|param| param.conflicts.contains(&other))
            };
            if !says(&one.value, &other.value) && !says(&other.value, &one.value) {
                complaints.push(
                    Complaint::new(
                        format!("`{}` and `{}` must conflict: one runs", one.value, other.value),
                        other.span.clone(),
                    )
                    .help(format!("add conflicts = [\"{}\"] to [params.{}]", other.value, one.value)),
                );
            }
        }
    }
    if let Some(name) = &arguments {
        match params.get(&name.value).map(|param| &param.kind) {
            Some(ParamType::List { .. }) => {}
            Some(_) => {
                complaints.push(Complaint::new("`arguments` names a `list` parameter", name.span.clone()))
            }
            None => complaints.push(unknown_parameter(name, &known)),
        }
    }
    match (command, names, builtin) {
        (Some(command), None, None) => Some(Runs::Command(command)),
        (None, Some(names), None) => Some(Runs::Parameter {
            names: names.into_iter().map(|name| name.value).collect(),
            arguments: arguments.map(|name| name.value),
        }),
        (None, None, Some(builtin)) => Some(Runs::Builtin(builtin.value)),
        _ => None,
    }
}

/// An argument vector whose first word, where it begins with `./`, is an executable file of the folder.
fn command(
    key: &str,
    table: &mut Table,
    files: &[ScriptFile],
    complaints: &mut Complaints,
) -> Option<Vec<String>> {
    let words = table.strings(key, complaints)?;
    let Some(first) = words.first().filter(|first| !first.value.is_empty()) else {
        let span = table.get(key).map_or(table.span.clone(), |value| value.span.clone());
        complaints.missing(Complaint::new(format!("`{key}` is empty"), span));
        return None;
    };
    if first.value.starts_with("./") {
        match file_of(&first.value, files) {
            Some(file) if file.mode & 0o111 == 0 => complaints.push(
                Complaint::new(format!("{} is not executable", shown(&first.value)), first.span.clone())
                    .help(format!("chmod +x {}", shown(&first.value))),
            ),
            Some(_) => {}
            None => complaints.push(no_such_file(first)),
        }
    }
    Some(words.into_iter().map(|word| word.value).collect())
}

pub(super) fn no_such_file(name: &Spanned<String>) -> Complaint {
    let message = format!("the provisioner's folder has no file {}", shown(&name.value));
    Complaint::new(message, name.span.clone())
}

/// The folder's file that a path relative to it names.
pub(super) fn file_of<'f>(path: &str, files: &'f [ScriptFile]) -> Option<&'f ScriptFile> {
    let plain: PathBuf = Path::new(path).components().filter(|part| *part != Component::CurDir).collect();
    files.iter().find(|file| file.path == plain)
}
