//! `{var:NAME}` in the strings of a recipe's tree.

use std::collections::BTreeMap;
use std::ops::Range;

use super::declare::{Declared, is_name};
use super::{Entries, VarValue, Variable, Variables};
use crate::recipe::reader::{Complaints, did_you_mean, listed, shown};
use crate::recipe::{Complaint, RawValue, Spanned, template};

/// Where the recipe has templates: in them a brace of a value's own is doubled. `*` is any key; lists have none.
const TEMPLATES: [&[&str]; 6] = [
    &["image", "name"],
    &["image", "description"],
    &["image", "snapshot_description"],
    &["image", "tags", "*"],
    &["tags", "*", "*"],
    &["publish", "parameters"],
];

/// A part of a string.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it stands.
    Text(String),
    /// `{var:NAME}`, and where it stands in the string.
    Variable { name: String, span: Range<usize> },
}

/// The parts of a string. `{{var:NAME}}` stands for the text `{var:NAME}`; in a template, braces that are
/// doubled stay so.
pub(super) fn pieces(text: &str, in_template: bool) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(found) = rest.find('{') else {
            literal.push_str(rest);
            break;
        };
        let (before, from) = rest.split_at(found);
        literal.push_str(before);
        at += found;
        let named = |opening: &str, closing: &str| -> Option<(String, usize)> {
            let (name, _) = from.strip_prefix(opening)?.split_once(closing)?;
            let one = !name.contains(['{', '}', '\n']);
            one.then(|| (name.to_owned(), opening.len() + name.len() + closing.len()))
        };
        if let Some((name, length)) = named("{{var:", "}}") {
            let braces = if in_template { 2 } else { 1 };
            literal.push_str(&format!("{}var:{name}{}", "{".repeat(braces), "}".repeat(braces)));
            at += length;
        } else if in_template && from.starts_with("{{") {
            literal.push_str("{{");
            at += 2;
        } else if let Some((name, length)) = named("{var:", "}") {
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Variable { name, span: at..at + length });
            at += length;
        } else {
            literal.push('{');
            at += 1;
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    pieces
}

/// How far a variable is settled.
enum State {
    /// With its value.
    Known(Variable),
    /// Not yet.
    Open(Declared),
    /// Being settled: who needs it now needs itself.
    Busy,
    /// It has none, which is told.
    Lost,
}

/// Fills in a recipe's tree.
pub(super) struct Filler<'a, 's> {
    states: BTreeMap<String, State>,
    lenient: bool,
    complaints: &'a mut Complaints<'s>,
}

impl<'a, 's> Filler<'a, 's> {
    pub(super) fn new(
        declared: BTreeMap<String, Declared>,
        lenient: bool,
        complaints: &'a mut Complaints<'s>,
    ) -> Self {
        let names: Vec<String> = declared.keys().cloned().collect();
        let states = declared.into_iter().map(|(name, one)| (name, State::Open(one))).collect();
        let mut filler = Self { states, lenient, complaints };
        for name in names {
            filler.value(&name);
        }
        filler
    }

    /// The variables that have values.
    pub(super) fn finish(self) -> Variables {
        let known = self.states.into_iter().filter_map(|(name, state)| match state {
            State::Known(variable) => Some((name, variable)),
            State::Open(_) | State::Busy | State::Lost => None,
        });
        Variables(known.collect())
    }

    /// Fills in all strings.
    pub(super) fn fill(&mut self, entries: &mut Entries) {
        self.table(entries, &mut Vec::new());
    }

    fn table(&mut self, entries: &mut Entries, path: &mut Vec<String>) {
        for (key, value) in entries {
            path.push(key.value.clone());
            self.one(value, path);
            path.pop();
        }
    }

    fn one(&mut self, value: &mut Spanned<RawValue>, path: &mut Vec<String>) {
        match &mut value.value {
            RawValue::String(text) => {
                let in_template = TEMPLATES.iter().any(|template| is_at(path, template));
                let text = Spanned { value: std::mem::take(text), span: value.span.clone() };
                value.value = self.text(&text, in_template);
            }
            RawValue::Array(items) => items.iter_mut().for_each(|item| self.one(item, path)),
            RawValue::Table(entries) => self.table(entries, path),
            RawValue::Integer(_) | RawValue::Float(_) | RawValue::Boolean(_) | RawValue::Datetime(_) => {}
        }
    }

    /// A string filled in. One that is a variable and nothing else has that variable's type.
    fn text(&mut self, text: &Spanned<String>, in_template: bool) -> RawValue {
        let pieces = pieces(&text.value, in_template);
        let mut filled = String::new();
        let mut lost = false;
        let alone = matches!(pieces.as_slice(), [Piece::Variable { .. }]);
        for piece in pieces {
            match piece {
                Piece::Text(text) => filled.push_str(&text),
                Piece::Variable { name, span } => match self.look_up(&name, text, span) {
                    Some(VarValue::Integer(number)) if alone => return RawValue::Integer(number),
                    Some(VarValue::Bool(value)) if alone => return RawValue::Boolean(value),
                    Some(value) if in_template => filled.push_str(&template::escape(&value.to_string())),
                    Some(value) => filled.push_str(&value.to_string()),
                    None => lost = true,
                },
            }
        }
        if lost {
            self.complaints.mute(text.span.clone());
            return RawValue::String(text.value.clone());
        }
        RawValue::String(filled)
    }

    /// The value of a variable that a string names; none where it has none, which is told.
    fn look_up(&mut self, name: &str, text: &Spanned<String>, span: Range<usize>) -> Option<VarValue> {
        if self.states.contains_key(name) {
            return self.value(name);
        }
        let span = self.complaints.within(text, span);
        let known: Vec<&str> = self.states.keys().map(String::as_str).collect();
        let mut complaint = Complaint::new(format!("there is no variable `{}`", shown(name)), span);
        complaint = complaint.label("not declared").help(match did_you_mean(name, &known) {
            Some(near) => format!("did you mean {{var:{near}}}?"),
            None if !is_name(name) => "a variable's name has letters, digits and `_`".to_owned(),
            None if known.is_empty() => format!("declare it: [vars] with {name} = \"…\""),
            None => format!("[vars] declares {}", listed(&known)),
        });
        self.complaints.push(complaint);
        None
    }

    /// The value of a declared variable, itself filled in.
    fn value(&mut self, name: &str) -> Option<VarValue> {
        let state = self.states.get_mut(name)?;
        let declared = match std::mem::replace(state, State::Busy) {
            State::Known(variable) => {
                let value = variable.value.clone();
                *state = State::Known(variable);
                return Some(value);
            }
            State::Lost => {
                *state = State::Lost;
                return None;
            }
            State::Busy => return None,
            State::Open(declared) => declared,
        };
        let settled = self.settle(name, declared);
        let value = settled.as_ref().map(|variable| variable.value.clone());
        self.states.insert(name.to_owned(), settled.map_or(State::Lost, State::Known));
        value
    }

    fn settle(&mut self, name: &str, declared: Declared) -> Option<Variable> {
        if declared.wrong {
            return None;
        }
        let Some((value, from)) = declared.value.clone() else {
            if !self.lenient {
                let message = format!("the variable `{}` has no value", shown(name));
                let complaint = Complaint::new(message, declared.span.clone()).label("required");
                self.complaints.push(complaint.help(declared.how_to_give(name)));
            }
            return None;
        };
        let Some(written) = &declared.written else { return Some(Variable { value, from }) };
        let mut filled = String::new();
        for piece in pieces(&written.value, false) {
            match piece {
                Piece::Text(text) => filled.push_str(&text),
                Piece::Variable { name: other, span } => {
                    if matches!(self.states.get(&other), Some(State::Busy)) {
                        let span = self.complaints.within(written, span);
                        let message = format!("the variable `{}` needs itself", shown(&other));
                        self.complaints.push(Complaint::new(message, span));
                        return None;
                    }
                    filled.push_str(&self.look_up(&other, written, span)?.to_string());
                }
            }
        }
        Some(Variable { value: VarValue::String(filled), from })
    }
}

/// Whether a path of keys is a template's.
fn is_at(path: &[String], template: &[&str]) -> bool {
    path.len() == template.len()
        && path.iter().zip(template).all(|(key, wanted)| *wanted == "*" || key == wanted)
}
