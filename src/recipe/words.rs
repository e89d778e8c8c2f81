//! The words of complaints: texts of the user's shown in a line, lists, and what may have been meant.

use super::{Complaint, Spanned};

/// A complaint about a key that is not known in `what`.
pub(crate) fn unknown_key(name: &Spanned<String>, what: &str, known: &[&str]) -> Complaint {
    let complaint =
        Complaint::new(format!("unknown key `{}` in {what}", shown(&name.value)), name.span.clone())
            .label("not known");
    match did_you_mean(&name.value, known) {
        Some(near) => complaint.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => complaint,
        None => complaint.help(format!("known are {}", listed(known))),
    }
}

/// The nearest of `known`, where it is near enough to be meant.
pub(crate) fn did_you_mean<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let name = name.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.replace('-', "_")), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` and `c`.
pub(crate) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => "none".to_owned(),
    }
}

/// A text of the user's, fit for one line of a message.
pub(crate) fn shown(text: &str) -> String {
    let mut line: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        line.push('…');
    }
    line
}
