//! Variables and named environments: `[vars]` and `[env.NAME]`, settled with what was given on the command line,
//! in files and in the builder's environment, and filled into the recipe's tree before anything of it is read.
//!
//! Nearest first: `--var`, `--var-file` (the later file first), `BAKEHOUSE_VAR_NAME`, `[env.NAME.vars]`, `[vars]`.

use std::collections::BTreeMap;
use std::fmt;

use super::complaint::Complained;
use super::reader::Complaints;
use super::{RawValue, Source, Spanned, template};

mod declare;
mod fill;
mod given;
mod overlay;

pub(super) use declare::{is_name, plain};
pub(crate) use overlay::names as environments;

/// A table's keys and values.
pub(super) type Entries = Vec<(Spanned<String>, Spanned<RawValue>)>;

/// What complaints about flags call their source.
pub const COMMAND_LINE: &str = "the command line";
/// What complaints about the builder's environment call their source.
pub const AMBIENT: &str = "the environment variables";
/// `BAKEHOUSE_VAR_NAME` gives the variable NAME.
pub const PREFIX: &str = "BAKEHOUSE_VAR_";

/// What a recipe is read with, besides its text.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The named environment that was chosen.
    pub environment: Option<String>,
    /// `--var`: names and values, as given.
    pub flags: Vec<(String, String)>,
    /// `--var-file`: their texts, in order.
    pub files: Vec<Source>,
    /// `BAKEHOUSE_VAR_NAME`: names without the prefix, and values. One that the recipe doesn't know is passed over.
    pub ambient: BTreeMap<String, String>,
    /// The environments that were not chosen are checked too, as far as their variables have values.
    pub check_all: bool,
    /// A variable without a value is no mistake, and strings that need it are passed over.
    pub lenient: bool,
}

impl Inputs {
    /// For checking an environment that was not chosen.
    pub(crate) fn only_looking_at(environment: &str) -> Self {
        Self { environment: Some(environment.to_owned()), lenient: true, ..Self::default() }
    }
}

/// A variable's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum VarValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    String(String),
}

impl fmt::Display for VarValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::String(value) => f.write_str(value),
        }
    }
}

/// A variable with its value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Variable {
    /// The value.
    pub value: VarValue,
    /// Who gave it: `[vars]`, `[env.prod]`, `BAKEHOUSE_VAR_stage`, a file's name, `--var`.
    pub from: String,
}

/// The variables of a recipe that have values, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Variables(pub BTreeMap<String, Variable>);

impl Variables {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&VarValue> {
        self.0.get(name).map(|variable| &variable.value)
    }

    /// A template's text with `{var:NAME}` filled in; the braces of a value stand for themselves there.
    ///
    /// # Errors
    /// What is wrong: a variable that isn't known.
    pub fn fill_template(&self, text: &str) -> Result<String, String> {
        fill::pieces(text, true)
            .into_iter()
            .map(|piece| match piece {
                fill::Piece::Text(text) => Ok(text),
                fill::Piece::Variable { name, .. } => match self.get(&name) {
                    Some(value) => Ok(template::escape(&value.to_string())),
                    None => Err(format!("there is no variable `{}`", super::reader::shown(&name))),
                },
            })
            .collect()
    }
}

/// A recipe's tree, settled.
pub(super) struct Settled {
    /// Without `[vars]` and `[env]`, with the environment laid over it, and every `{var:NAME}` filled in.
    pub(super) entries: Entries,
    /// The environment's name, where one was chosen that there is.
    pub(super) environment: Option<String>,
    /// The variables.
    pub(super) variables: Variables,
    /// The names of all variables, also of those without a value.
    pub(super) declared: Vec<String>,
    /// What is wrong with what was given from outside of the recipe.
    pub(super) outside: Vec<Complained>,
}

/// Settles variables and environment.
pub(super) fn settle(mut entries: Entries, inputs: &Inputs, complaints: &mut Complaints) -> Settled {
    let mut outside = Vec::new();
    let mut overlay = overlay::take(&mut entries, inputs, complaints, &mut outside);
    let environment = overlay.is_some().then(|| inputs.environment.clone()).flatten();
    let own = overlay::remove(&mut entries, "vars");
    let over = overlay.as_mut().and_then(|entries| overlay::remove(entries, "vars"));
    let mut declared = declare::read(own.as_ref(), complaints);
    if let (Some((_, value)), Some(environment)) = (&over, &environment) {
        declare::lay_over(&mut declared, environment, value, complaints);
    }
    given::take(&mut declared, inputs, &mut outside);
    overlay::merge(&mut entries, overlay.unwrap_or_default());
    let names = declared.keys().cloned().collect();
    let mut filler = fill::Filler::new(declared, inputs.lenient, complaints);
    filler.fill(&mut entries);
    let variables = filler.finish();
    Settled { entries, environment, variables, declared: names, outside }
}

#[cfg(test)]
mod tests;
