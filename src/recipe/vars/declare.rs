//! `[vars]`: which variables there are, of which types, and their values in the recipe.

use std::collections::BTreeMap;
use std::ops::Range;

use super::VarValue;
use crate::recipe::reader::{Complaints, Table, did_you_mean, listed, shown, unknown_key, wrong_type};
use crate::recipe::{Complaint, RawValue, Spanned};

/// A variable's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Integer,
    Bool,
}

impl Kind {
    const WORDS: [&str; 3] = ["string", "integer", "bool"];

    fn of(value: &VarValue) -> Self {
        match value {
            VarValue::String(_) => Self::String,
            VarValue::Integer(_) => Self::Integer,
            VarValue::Bool(_) => Self::Bool,
        }
    }

    /// With its article.
    fn name(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Bool => "true or false",
        }
    }
}

/// A variable.
#[derive(Debug)]
pub(super) struct Declared {
    /// Where it is declared.
    pub(super) span: Range<usize>,
    kind: Kind,
    /// What it is for.
    doc: Option<String>,
    /// The only values that it may have, where they are named.
    values: Vec<VarValue>,
    /// Its value, and who gave it.
    pub(super) value: Option<(VarValue, String)>,
    /// Where a value of the recipe's own stands: variables in it are filled in. None for one from outside.
    pub(super) written: Option<Spanned<String>>,
    /// Its value can't be one, which is told already.
    pub(super) wrong: bool,
}

impl Declared {
    /// Judges a value in TOML.
    pub(super) fn judge(&self, what: &str, raw: &Spanned<RawValue>) -> Result<VarValue, Complaint> {
        let value = self.judge_type(what, raw)?;
        self.known(what, &value)
            .map_err(|(message, help)| Complaint::new(message, raw.span.clone()).help(help))?;
        Ok(value)
    }

    fn judge_type(&self, what: &str, raw: &Spanned<RawValue>) -> Result<VarValue, Complaint> {
        let value = plain(&raw.value).filter(|value| Kind::of(value) == self.kind);
        value.ok_or_else(|| wrong_type(what, self.kind.name(), &raw.value, raw.span.clone()))
    }

    /// Takes a value of the recipe's own.
    fn put(&mut self, value: VarValue, from: String, raw: &Spanned<RawValue>) {
        self.written = match &value {
            VarValue::String(text) => Some(Spanned { value: text.clone(), span: raw.span.clone() }),
            VarValue::Integer(_) | VarValue::Bool(_) => None,
        };
        self.value = Some((value, from));
    }

    /// Reads a text from the command line or the environment; what is wrong with it, and what to do.
    pub(super) fn parse(&self, what: &str, text: &str) -> Result<VarValue, (String, String)> {
        let value = match self.kind {
            Kind::String => Some(VarValue::String(text.to_owned())),
            Kind::Integer => text.parse().ok().map(VarValue::Integer),
            Kind::Bool => text.parse().ok().map(VarValue::Bool),
        };
        let value = value.ok_or_else(|| {
            let help = self.doc.clone().unwrap_or_else(|| "[vars] says its type".to_owned());
            (format!("{what} must be {}, and `{}` is not", self.kind.name(), shown(text)), help)
        })?;
        self.known(what, &value)?;
        Ok(value)
    }

    fn known(&self, what: &str, value: &VarValue) -> Result<(), (String, String)> {
        if self.values.is_empty() || self.values.contains(value) {
            return Ok(());
        }
        let known: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let value = value.to_string();
        let help = match did_you_mean(&value, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", listed(&known)),
        };
        Err((format!("{what} can't be `{}`", shown(&value)), help))
    }

    /// What to do where there is no value.
    pub(super) fn how_to_give(&self, name: &str) -> String {
        let about = self.doc.as_ref().map(|doc| format!("{doc}: ")).unwrap_or_default();
        format!("{about}give --var {name}=…, a --var-file that has it, or BAKEHOUSE_VAR_{name}")
    }
}

/// Whether it can be a variable's name: as in a shell, so that an environment variable can give it.
pub(in crate::recipe) fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A value that a variable can have.
pub(in crate::recipe) fn plain(value: &RawValue) -> Option<VarValue> {
    match value {
        RawValue::String(text) if !text.contains('\0') => Some(VarValue::String(text.clone())),
        RawValue::Integer(number) => Some(VarValue::Integer(*number)),
        RawValue::Boolean(value) => Some(VarValue::Bool(*value)),
        _ => None,
    }
}

/// Reads `[vars]`.
pub(super) fn read(
    vars: Option<&(Spanned<String>, Spanned<RawValue>)>,
    complaints: &mut Complaints,
) -> BTreeMap<String, Declared> {
    let mut declared = BTreeMap::new();
    let Some(table) = vars.and_then(|(_, value)| Table::of("[vars]", value, complaints)) else {
        return declared;
    };
    for (name, value) in table.all() {
        let why = match name.value.as_str() {
            "fact" => Some("`fact` is what templates of files call the bake's facts"),
            other if !is_name(other) => Some("letters, digits and `_`, and no digit first"),
            _ => None,
        };
        if let Some(why) = why {
            let message = format!("`{}` can't be a variable's name", shown(&name.value));
            complaints.push(Complaint::new(message, name.span.clone()).help(why));
        }
        declared.insert(name.value.clone(), variable(name, value, complaints));
    }
    declared
}

fn variable(name: &Spanned<String>, raw: &Spanned<RawValue>, complaints: &mut Complaints) -> Declared {
    let what = format!("the variable `{}`", shown(&name.value));
    let mut declared = Declared {
        span: name.span.clone(),
        kind: Kind::String,
        doc: None,
        values: Vec::new(),
        value: None,
        written: None,
        wrong: false,
    };
    if let RawValue::Table(_) = raw.value {
        table(&what, &mut declared, raw, complaints);
        return declared;
    }
    match plain(&raw.value) {
        Some(value) => {
            declared.kind = Kind::of(&value);
            declared.put(value, "[vars]".to_owned(), raw);
        }
        None => {
            declared.wrong = true;
            let wanted = "a string, an integer, true or false, or a table that says more of it";
            complaints.push(wrong_type(&what, wanted, &raw.value, raw.span.clone()));
        }
    }
    declared
}

/// `{ type = "string", default = "…", doc = "…", values = ["…"] }`, or `required = true` in place of the default.
fn table(what: &str, declared: &mut Declared, raw: &Spanned<RawValue>, complaints: &mut Complaints) {
    let Some(mut table) = Table::of(what, raw, complaints) else { return };
    let word = table.string("type", complaints);
    let default = table.entry("default");
    let kind = match word.as_ref().map(|word| word.value.as_str()) {
        Some("string") => Some(Kind::String),
        Some("integer") => Some(Kind::Integer),
        Some("bool") => Some(Kind::Bool),
        Some(other) => {
            let span = word.as_ref().map(|word| word.span.clone()).unwrap_or_default();
            let complaint = Complaint::new(format!("unknown type `{}` of {what}", shown(other)), span);
            complaints.push(complaint.help(format!("known are {}", listed(&Kind::WORDS))));
            None
        }
        None => default.and_then(|(_, value)| plain(&value.value)).map(|value| Kind::of(&value)),
    };
    declared.kind = kind.unwrap_or(Kind::String);
    declared.doc = table.string("doc", complaints).map(|doc| doc.value);
    if let Some(values) = table.get("values") {
        match &values.value {
            RawValue::Array(items) if !items.is_empty() => {
                let item_name = format!("an item of `values` of {what}");
                for item in items {
                    match declared.judge_type(&item_name, item) {
                        Ok(value) => declared.values.push(value),
                        Err(complaint) => complaints.push(complaint),
                    }
                }
            }
            other => complaints.push(wrong_type("`values`", "a list, not empty", other, values.span.clone())),
        }
    }
    let required = table.bool("required", complaints);
    match (default, required) {
        (Some((key, _)), Some(true)) => {
            let message = format!("{what} is required, so it has no use for a `default`");
            complaints.push(Complaint::new(message, key.span.clone()).help("leave one of them"));
        }
        (None, Some(false)) => complaints.push(
            Complaint::new(format!("{what} is not required, and has no `default`"), declared.span.clone())
                .help("add default = …"),
        ),
        _ => {}
    }
    if let Some((_, value)) = default {
        match declared.judge(&format!("`default` of {what}"), value) {
            Ok(plain) => declared.put(plain, "[vars]".to_owned(), value),
            Err(complaint) => {
                declared.wrong = true;
                complaints.push(complaint);
            }
        }
    }
    table.finish(complaints);
}

/// `[env.NAME.vars]`: other values of variables that `[vars]` declares.
pub(super) fn lay_over(
    declared: &mut BTreeMap<String, Declared>,
    environment: &str,
    vars: &Spanned<RawValue>,
    complaints: &mut Complaints,
) {
    let section = format!("[env.{environment}.vars]");
    let Some(table) = Table::of(&section, vars, complaints) else { return };
    for (name, raw) in table.all() {
        let known: Vec<String> = declared.keys().cloned().collect();
        let Some(variable) = declared.get_mut(&name.value) else {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let mut complaint = unknown_key(name, &section, &known);
            complaint.message = format!("[vars] declares no variable `{}`", shown(&name.value));
            complaints.push(complaint);
            continue;
        };
        match variable.judge(&format!("the variable `{}`", shown(&name.value)), raw) {
            Ok(value) => {
                variable.wrong = false;
                variable.put(value, format!("[env.{environment}]"), raw);
            }
            Err(complaint) => {
                variable.wrong = true;
                complaints.push(complaint);
            }
        }
    }
}
