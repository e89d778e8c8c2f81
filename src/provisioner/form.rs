//! What a definition asks of a parameter's text, and which parameters it names, perhaps with a value of theirs.

use std::fmt;

use regex_lite::Regex;

use crate::recipe::reader::{Complaints, Table, shown};
use crate::recipe::{Complaint, RawValue, Spanned, matches_glob};

/// A pattern that a whole text is to match.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    /// What is asked for, in words.
    form: Option<String>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.form == other.form
    }
}

impl Pattern {
    /// The one that `key` of a parameter's table says, with its `form`; complains where it is none.
    pub(super) fn read(key: &str, table: &mut Table, complaints: &mut Complaints) -> Option<Self> {
        let text = table.string(key, complaints)?;
        let form = table.string("form", complaints).map(|form| form.value);
        // First as it stands, for what closes the group that is put around it is no expression of its own.
        let whole = Regex::new(&text.value).and_then(|_| Regex::new(&format!(r"\A(?:{})\z", text.value)));
        match whole {
            Ok(regex) => Some(Self { regex, form }),
            Err(why) => {
                let message = format!("`{key}` is no regular expression: {why}");
                complaints.push(Complaint::new(message, text.span));
                None
            }
        }
    }

    /// Complains unless the text matches.
    pub(super) fn fits(&self, what: &str, text: &Spanned<String>, complaints: &mut Complaints) -> bool {
        if self.regex.is_match(&text.value) {
            return true;
        }
        let message = format!("{what} can't be `{}`", shown(&text.value));
        let mut complaint = Complaint::new(message, text.span.clone());
        complaint.help = self.form.clone();
        complaints.push(complaint);
        false
    }
}

/// A parameter that is given: with any value, or with one that a glob matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The parameter.
    pub name: String,
    /// The value's; of a list any item's.
    pub glob: Option<String>,
}

impl Given {
    /// `NAME` or `NAME=GLOB`.
    pub(super) fn read(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, glob)) => Self { name: name.to_owned(), glob: Some(glob.to_owned()) },
            None => Self { name: text.to_owned(), glob: None },
        }
    }

    /// Whether `value` is so; none where that can't be known, since a variable in it has no value.
    pub(super) fn holds(&self, value: Option<&Spanned<RawValue>>, complaints: &Complaints) -> Option<bool> {
        let (Some(glob), Some(value)) = (&self.glob, value) else { return Some(value.is_some()) };
        let one = |value: &Spanned<RawValue>| match complaints.is_muted(&value.span) {
            true => None,
            false => Some(text(&value.value).is_some_and(|text| matches_glob(glob, &text))),
        };
        let RawValue::Array(items) = &value.value else { return one(value) };
        let items: Vec<_> = items.iter().map(one).collect();
        match items.contains(&Some(true)) {
            true => Some(true),
            false => items.into_iter().all(|item| item.is_some()).then_some(false),
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.glob {
            Some(glob) => write!(f, "`{} = {glob}`", self.name),
            None => write!(f, "`{}`", self.name),
        }
    }
}

/// `a`, or one of `a`, `b` and `c`.
pub(super) fn any_of(group: &[Given]) -> String {
    let words: Vec<String> = group.iter().map(ToString::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("one of {} and {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// A scalar's text.
pub(super) fn text(value: &RawValue) -> Option<String> {
    match value {
        RawValue::String(text) | RawValue::Datetime(text) => Some(text.clone()),
        RawValue::Integer(number) => Some(number.to_string()),
        RawValue::Boolean(said) => Some(said.to_string()),
        RawValue::Float(number) => Some(number.to_string()),
        RawValue::Array(_) | RawValue::Table(_) => None,
    }
}
