//! TOML text to a tree of values with their places, and its syntax errors as complaints.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Complaint, RawValue, Source, Spanned};

type Entries = Vec<(Spanned<String>, Spanned<RawValue>)>;

/// The most segments that a dotted key may have. Nesting by dotted keys has no limit in TOML, and a tree of
/// any depth could not be walked on a stack of some size.
const DEEPEST_KEY: usize = 32;

/// Parses a text. With syntax errors, the tree holds what stands before the first of them.
pub(crate) fn parse(source: &Source) -> (Entries, Vec<Complaint>) {
    let text = source.text.as_str();
    if let Some(span) = too_deep(text) {
        let complaint =
            Complaint::new("a key of too many parts", span).label(format!("more than {DEEPEST_KEY} parts"));
        return (Vec::new(), vec![complaint]);
    }
    let mut complaints = Vec::new();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = fit(text, error.span().unwrap_or(0..0));
        let first = error.message().lines().next().unwrap_or("not TOML");
        complaints.push(Complaint::new(format!("not TOML: {first}"), span));
    }
    let mut entries = table(text, document.get_ref(), &mut complaints);
    if let Some(start) = complaints.iter().map(|complaint| complaint.span.start).min() {
        let line = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
        entries = before(entries, line);
    }
    (entries, complaints)
}

/// What of the tree stands before `end`.
fn before(entries: Entries, end: usize) -> Entries {
    let kept = entries.into_iter().filter(|(key, value)| key.span.end <= end && value.span.end <= end);
    kept.map(|(key, value)| {
        let pruned = match value.value {
            RawValue::Table(entries) => RawValue::Table(before(entries, end)),
            RawValue::Array(items) => RawValue::Array(
                items
                    .into_iter()
                    .filter(|item| item.span.end <= end)
                    .map(|item| match item.value {
                        RawValue::Table(entries) => {
                            Spanned { value: RawValue::Table(before(entries, end)), span: item.span }
                        }
                        value => Spanned { value, span: item.span },
                    })
                    .collect(),
            ),
            other => other,
        };
        (key, Spanned { value: pruned, span: value.span })
    })
    .collect()
}

/// A key that nests too deep: dots outside of strings and numbers, counted a line.
fn too_deep(text: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut quote = None;
        let mut dots = 0;
        for (offset, byte) in line.bytes().enumerate() {
            match (quote, byte) {
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), _) if open == byte => quote = None,
                (None, b'.') => dots += 1,
                (None, b'=' | b',' | b'{' | b'#') => dots = 0,
                _ => {}
            }
            if dots > DEEPEST_KEY {
                let end = start + offset + 1;
                return Some(fit(text, start..end));
            }
        }
        start += line.len();
    }
    None
}

/// The span, moved so that it lies within the text and between characters.
fn fit(text: &str, span: Range<usize>) -> Range<usize> {
    let down = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = down(span.start);
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

fn table(text: &str, table: &DeTable, complaints: &mut Vec<Complaint>) -> Entries {
    let mut entries: Entries = table
        .iter()
        .map(|(key, value)| {
            let key = Spanned { value: key.get_ref().to_string(), span: fit(text, key.span()) };
            let span = fit(text, value.span());
            (key, Spanned { value: convert(text, value.get_ref(), &span, complaints), span })
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.span.start);
    entries
}

fn convert(text: &str, value: &DeValue, span: &Range<usize>, complaints: &mut Vec<Complaint>) -> RawValue {
    match value {
        DeValue::String(text) => RawValue::String(text.to_string()),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => RawValue::Integer(number),
            Err(_) => {
                complaints.push(Complaint::new("an integer out of range", span.clone()));
                RawValue::Integer(0)
            }
        },
        DeValue::Float(digits) => RawValue::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => RawValue::Boolean(*value),
        DeValue::Datetime(value) => RawValue::Datetime(value.to_string()),
        DeValue::Array(items) => RawValue::Array(
            items
                .iter()
                .map(|item| {
                    let span = fit(text, item.span());
                    Spanned { value: convert(text, item.get_ref(), &span, complaints), span }
                })
                .collect(),
        ),
        DeValue::Table(entries) => RawValue::Table(self::table(text, entries, complaints)),
    }
}
