//! Values from outside of the recipe: the builder's environment, files, flags.

use std::collections::BTreeMap;

use super::declare::Declared;
use super::{AMBIENT, COMMAND_LINE, Inputs, PREFIX};
use crate::recipe::complaint::Complained;
use crate::recipe::reader::{did_you_mean, listed, shown};
use crate::recipe::{Complaint, Source, tree};

/// Takes them, the farthest first, so that the nearest stays.
pub(super) fn take(
    declared: &mut BTreeMap<String, Declared>,
    inputs: &Inputs,
    outside: &mut Vec<Complained>,
) {
    for (name, text) in &inputs.ambient {
        if let Some(variable) = declared.get_mut(name) {
            let given = format!("{PREFIX}{name}");
            give(variable, &given, text, (AMBIENT, &format!("{given}=")), outside);
        }
    }
    for file in &inputs.files {
        self::file(declared, file, outside);
    }
    for (name, text) in &inputs.flags {
        match declared.get_mut(name) {
            Some(variable) => {
                give(variable, "--var", text, (COMMAND_LINE, &format!("--var {name}=")), outside)
            }
            None => {
                let known: Vec<&str> = declared.keys().map(String::as_str).collect();
                outside.push(complained(
                    COMMAND_LINE,
                    "--var ",
                    name,
                    &format!("={}", shown(text)),
                    unknown(name, &known),
                ));
            }
        }
    }
}

/// What is wrong with a name that `[vars]` doesn't have, and what to do.
fn unknown(name: &str, known: &[&str]) -> (String, String) {
    let help = match did_you_mean(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "the recipe has no [vars]: declare it there".to_owned(),
        None => format!("declared are {}", listed(known)),
    };
    (format!("[vars] declares no variable `{}`", shown(name)), help)
}

fn give(
    variable: &mut Declared,
    from: &str,
    text: &str,
    (source, before): (&str, &str),
    outside: &mut Vec<Complained>,
) {
    let name = before.trim_end_matches('=');
    match variable.parse(name, text) {
        Ok(value) if !text.contains('\0') => {
            variable.wrong = false;
            variable.written = None;
            variable.value = Some((value, from.to_owned()));
        }
        Ok(_) => {}
        Err(why) => {
            variable.wrong = true;
            outside.push(complained(source, before, &shown(text), "", why));
        }
    }
}

/// A complaint about `part` of a line that was typed.
fn complained(
    source: &str,
    before: &str,
    part: &str,
    after: &str,
    (message, help): (String, String),
) -> Complained {
    let text = format!("{before}{part}{after}");
    // An empty value has no place of its own.
    let start = if part.is_empty() { 0 } else { before.len() };
    let span = start..before.len() + part.len();
    let source = Source { name: source.to_owned(), text };
    Complained { source, complaints: vec![Complaint::new(message, span).help(help)] }
}

fn file(declared: &mut BTreeMap<String, Declared>, source: &Source, outside: &mut Vec<Complained>) {
    let (entries, mut complaints) = tree::parse(source);
    for (name, raw) in &entries {
        let known: Vec<String> = declared.keys().cloned().collect();
        let Some(variable) = declared.get_mut(&name.value) else {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let (message, help) = unknown(&name.value, &known);
            complaints.push(Complaint::new(message, name.span.clone()).help(help));
            continue;
        };
        match variable.judge(&format!("the variable `{}`", shown(&name.value)), raw) {
            Ok(value) => {
                variable.wrong = false;
                variable.written = None;
                variable.value = Some((value, source.name.clone()));
            }
            Err(complaint) => {
                variable.wrong = true;
                complaints.push(complaint);
            }
        }
    }
    if !complaints.is_empty() {
        complaints.sort_by_key(|complaint| complaint.span.start);
        outside.push(Complained { source: source.clone(), complaints });
    }
}

/// A complaint about an environment's name that was given.
pub(super) fn no_environment(name: &str, known: &[&str]) -> Complained {
    let help = match did_you_mean(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("the recipe has no [env.{}]", shown(name)),
        None => format!("known are {}", listed(known)),
    };
    let message = format!("the recipe has no environment `{}`", shown(name));
    complained(COMMAND_LINE, "--env ", &shown(name), "", (message, help))
}
