//! `[env.NAME]`: a named environment laid over the recipe.

use super::given::no_environment;
use super::{Entries, Inputs};
use crate::recipe::complaint::Complained;
use crate::recipe::reader::{Complaints, Table, shown};
use crate::recipe::{Complaint, RawValue, Source, Spanned, base, tree};

/// Takes `key` out of a table.
pub(super) fn remove(entries: &mut Entries, key: &str) -> Option<(Spanned<String>, Spanned<RawValue>)> {
    let place = entries.iter().position(|(name, _)| name.value == key)?;
    Some(entries.remove(place))
}

/// The names of a recipe's environments.
pub(crate) fn names(source: &Source) -> Vec<String> {
    let (mut entries, _) = tree::parse(source);
    match remove(&mut entries, "env").map(|(_, value)| value.value) {
        Some(RawValue::Table(environments)) => environments.into_iter().map(|(name, _)| name.value).collect(),
        _ => Vec::new(),
    }
}

/// Takes `[env]` out of the recipe; the chosen environment's table, where there is one.
pub(super) fn take(
    entries: &mut Entries,
    inputs: &Inputs,
    complaints: &mut Complaints,
    outside: &mut Vec<Complained>,
) -> Option<Entries> {
    let env = remove(entries, "env");
    let table = env.as_ref().and_then(|(_, value)| Table::of("[env]", value, complaints));
    let environments = table.map(|table| table.all()).unwrap_or_default();
    for (name, value) in environments {
        let good = !name.value.is_empty()
            && name.value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if !good {
            let message = format!("`{}` can't be an environment's name", shown(&name.value));
            complaints.push(Complaint::new(message, name.span.clone()).help("letters, digits, `-` and `_`"));
        }
        let section = format!("[env.{}]", shown(&name.value));
        if let Some(mut table) = Table::of(section, value, complaints)
            && let Some((key, _)) = table.entry("env")
        {
            let message = "an environment has no environments of its own";
            complaints.push(Complaint::new(message, key.span.clone()));
        }
    }
    let wanted = inputs.environment.as_ref()?;
    match environments.iter().find(|(name, _)| name.value == *wanted) {
        Some((_, Spanned { value: RawValue::Table(entries), .. })) => {
            let mut entries = entries.clone();
            remove(&mut entries, "env");
            Some(entries)
        }
        Some(_) => None,
        None => {
            let known: Vec<&str> = environments.iter().map(|(name, _)| name.value.as_str()).collect();
            outside.push(no_environment(wanted, &known));
            None
        }
    }
}

/// Lays a recipe's sections over others: tables are merged, anything else is replaced. Where the overlay says
/// which base, `[base]` is replaced as a whole: the keys beside one way of choosing mean nothing beside another.
pub(super) fn merge(entries: &mut Entries, over: Entries) {
    for (key, value) in over {
        if key.value == "base"
            && let RawValue::Table(said) = &value.value
            && said.iter().any(|(key, _)| base::SELECTORS.contains(&key.value.as_str()))
        {
            remove(entries, "base");
        }
        lay(entries, key, value);
    }
}

fn lay(entries: &mut Entries, key: Spanned<String>, value: Spanned<RawValue>) {
    let Some((found, below)) = entries.iter_mut().find(|(name, _)| name.value == key.value) else {
        entries.push((key, value));
        return;
    };
    match (&mut below.value, value.value) {
        (RawValue::Table(below), RawValue::Table(over)) => {
            for (key, value) in over {
                lay(below, key, value);
            }
        }
        (_, over) => {
            *found = key;
            *below = Spanned { value: over, span: value.span };
        }
    }
}
