//! Reads tables of a TOML text and keeps complaints as it goes, so that everything wrong is told at once.
//! Recipes and provisioners' definitions are both read with it.

use std::ops::Range;

use super::tree;
pub(crate) use super::words::{did_you_mean, listed, shown, unknown_key};
use super::{Complaint, RawValue, Source, Spanned};

mod values;

pub(crate) use values::{
    bool, duration, environment, inside_path, integer, map, size, string, strings, wrong_type,
};

/// The complaints about one text.
#[derive(Debug)]
pub(crate) struct Complaints<'s> {
    source: &'s Source,
    list: Vec<Complaint>,
    /// Of what stands here all is said.
    muted: Vec<Range<usize>>,
    partial: bool,
}

impl<'s> Complaints<'s> {
    /// None yet.
    pub(crate) fn new(source: &'s Source) -> Self {
        Self { source, list: Vec::new(), muted: Vec::new(), partial: false }
    }

    /// Parses the text as TOML. Where it is none, what could be read of it is returned, and what is found
    /// missing in it later is not complained of.
    pub(crate) fn tree(&mut self) -> Vec<(Spanned<String>, Spanned<RawValue>)> {
        let (entries, complaints) = tree::parse(self.source);
        self.partial = !complaints.is_empty();
        self.list.extend(complaints);
        entries
    }

    /// None yet, about the same text.
    pub(crate) fn about_the_same(&self) -> Self {
        Self { source: self.source, list: Vec::new(), muted: self.muted.clone(), partial: self.partial }
    }

    /// Adds one.
    pub(crate) fn push(&mut self, complaint: Complaint) {
        if !self.is_muted(&complaint.span) {
            self.list.push(complaint);
        }
    }

    /// What is wrong at `span` is told, or can't be known: nothing more is to be said of it.
    pub(crate) fn mute(&mut self, span: Range<usize>) {
        self.muted.push(span);
    }

    /// Whether what stands at `span` is told, or can't be known.
    pub(crate) fn is_muted(&self, span: &Range<usize>) -> bool {
        self.muted.iter().any(|muted| muted.start <= span.start && span.end <= muted.end)
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// Adds those about the same text as it stands in an environment that was not chosen, as far as they
    /// are new.
    pub(crate) fn adopt(&mut self, others: Self, environment: &str) {
        for mut other in others.list {
            if !self.list.contains(&other) {
                other.message.push_str(&format!(" (in the environment `{environment}`)"));
                self.list.push(other);
            }
        }
    }

    /// Whether what stands at `span` is written as a string.
    fn is_quoted(&self, span: &Range<usize>) -> bool {
        self.source.text.get(span.start..).is_some_and(|rest| rest.starts_with(['"', '\'']))
    }

    /// Adds one about something that should be there and isn't.
    pub(crate) fn missing(&mut self, complaint: Complaint) {
        if !self.partial {
            self.list.push(complaint);
        }
    }

    /// All of them by place, each once; `Ok(value)` where there are none.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<Complaint>> {
        if self.list.is_empty() {
            if let Some(value) = value {
                return Ok(value);
            }
            self.list.push(Complaint::new("nothing could be read", 0..0));
        }
        self.list.sort_by_key(|complaint| (complaint.span.start, complaint.span.end));
        self.list.dedup();
        Err(self.list)
    }

    /// The place of `part` (bytes of the string's value) in the text: exact where the string is written without
    /// escapes, else the whole string.
    pub(crate) fn within(&self, string: &Spanned<String>, part: Range<usize>) -> Range<usize> {
        let written = self.source.text.get(string.span.clone()).unwrap_or_default();
        let quotes = if written.starts_with("\"\"\"") || written.starts_with("'''") { 3 } else { 1 };
        let inner = written.get(quotes..written.len().saturating_sub(quotes)).unwrap_or_default();
        let (skipped, inner) = match inner.strip_prefix('\n') {
            Some(rest) if quotes == 3 => (1, rest),
            _ => (0, inner),
        };
        let start = string.span.start + quotes + skipped;
        if inner == string.value && string.value.get(part.clone()).is_some() {
            start + part.start..start + part.end
        } else {
            string.span.clone()
        }
    }
}

/// A table being read: what was asked for is known, so what is left over is unknown.
#[derive(Debug)]
pub(crate) struct Table<'v> {
    /// How messages call it, `[disk]`.
    pub(crate) what: String,
    /// Its header, or where it stands inline.
    pub(crate) span: Range<usize>,
    entries: &'v [(Spanned<String>, Spanned<RawValue>)],
    asked: Vec<String>,
}

impl<'v> Table<'v> {
    /// A table of these entries.
    pub(crate) fn new(
        what: impl Into<String>,
        span: Range<usize>,
        entries: &'v [(Spanned<String>, Spanned<RawValue>)],
    ) -> Self {
        Self { what: what.into(), span, entries, asked: Vec::new() }
    }

    /// The table that `value` is, or a complaint.
    pub(crate) fn of(
        what: impl Into<String>,
        value: &'v Spanned<RawValue>,
        complaints: &mut Complaints,
    ) -> Option<Self> {
        let what = what.into();
        match &value.value {
            RawValue::Table(entries) => Some(Self::new(what, value.span.clone(), entries)),
            other => {
                complaints.push(wrong_type(&what, "a table", other, value.span.clone()));
                None
            }
        }
    }

    /// These keys may be meant too, though they are read elsewhere.
    pub(crate) fn knows(&mut self, keys: &[&str]) {
        self.asked.extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// The value of `key` and the key's own place.
    pub(crate) fn entry(&mut self, key: &str) -> Option<(&'v Spanned<String>, &'v Spanned<RawValue>)> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
        self.entries.iter().find(|(name, _)| name.value == key).map(|(name, value)| (name, value))
    }

    /// The value of `key`.
    pub(crate) fn get(&mut self, key: &str) -> Option<&'v Spanned<RawValue>> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The value of `key`, read by `read`, which is given the key's name for its messages.
    fn read<T>(
        &mut self,
        key: &str,
        complaints: &mut Complaints,
        read: impl FnOnce(&str, &'v Spanned<RawValue>, &mut Complaints) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        read(&format!("`{key}`"), value, complaints)
    }

    /// A string.
    pub(crate) fn string(&mut self, key: &str, complaints: &mut Complaints) -> Option<Spanned<String>> {
        self.read(key, complaints, string)
    }

    /// A boolean.
    pub(crate) fn bool(&mut self, key: &str, complaints: &mut Complaints) -> Option<bool> {
        self.read(key, complaints, bool)
    }

    /// An integer.
    pub(crate) fn integer(&mut self, key: &str, complaints: &mut Complaints) -> Option<Spanned<i64>> {
        self.read(key, complaints, integer)
    }

    /// A size in bytes.
    pub(crate) fn size(&mut self, key: &str, complaints: &mut Complaints) -> Option<Spanned<u64>> {
        self.read(key, complaints, size)
    }

    /// A duration in seconds.
    pub(crate) fn duration(&mut self, key: &str, complaints: &mut Complaints) -> Option<Spanned<u64>> {
        self.read(key, complaints, duration)
    }

    /// A list of strings.
    pub(crate) fn strings(&mut self, key: &str, complaints: &mut Complaints) -> Option<Vec<Spanned<String>>> {
        self.read(key, complaints, strings)
    }

    /// A map of strings.
    pub(crate) fn map(
        &mut self,
        key: &str,
        complaints: &mut Complaints,
    ) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
        self.read(key, complaints, map)
    }

    /// A table.
    pub(crate) fn table(&mut self, key: &str, complaints: &mut Complaints) -> Option<Table<'v>> {
        let value = self.get(key)?;
        Table::of(format!("[{key}]"), value, complaints)
    }

    /// An array of tables; empty where it isn't there.
    pub(crate) fn tables(&mut self, key: &str, complaints: &mut Complaints) -> Vec<Table<'v>> {
        let Some((name, value)) = self.entry(key) else { return Vec::new() };
        match &value.value {
            RawValue::Array(items) => {
                items.iter().filter_map(|item| Table::of(format!("[[{key}]]"), item, complaints)).collect()
            }
            RawValue::Table(_) => {
                complaints.push(
                    Complaint::new(format!("`{key}` is one table; there may be several"), name.span.clone())
                        .help(format!("write [[{key}]], with two brackets")),
                );
                Vec::new()
            }
            other => {
                let what = format!("`{key}`");
                complaints.push(wrong_type(&what, "an array of tables", other, value.span.clone()));
                Vec::new()
            }
        }
    }

    /// All entries, whatever was asked for.
    pub(crate) fn all(&self) -> &'v [(Spanned<String>, Spanned<RawValue>)] {
        self.entries
    }

    /// The entries that were not asked for.
    pub(crate) fn rest(
        &self,
    ) -> impl Iterator<Item = &'v (Spanned<String>, Spanned<RawValue>)> + use<'_, 'v> {
        self.entries.iter().filter(|(name, _)| !self.asked.contains(&name.value))
    }

    /// Complains of every key that was not asked for.
    pub(crate) fn finish(self, complaints: &mut Complaints) {
        let known: Vec<&str> = self.asked.iter().map(String::as_str).collect();
        for (name, _) in self.rest() {
            complaints.push(unknown_key(name, &self.what, &known));
        }
    }
}
