//! The one-line form: a base and packages, as a recipe's text. It then goes the recipe's way.

use super::{BaseSelector, Source};

/// What the one-line form says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneLine {
    /// The base.
    pub base: BaseSelector,
    /// Package specs as typed.
    pub packages: Vec<String>,
    /// The disk's size as typed, which a base from scratch must have.
    pub size: Option<String>,
    /// The image's name template; `{package}-{version}-{arch}-{time}` where left out, `{base}-{time}` without packages.
    pub name: Option<String>,
}

/// The recipe's text that a one-line form means. Complaints about it show it.
pub fn one_line(line: &OneLine) -> Source {
    let default =
        if line.packages.is_empty() { "{base}-{time}" } else { "{package}-{version}-{arch}-{time}" };
    let name = quote(line.name.as_deref().unwrap_or(default));
    let mut text = format!("[image]\nname = {name}\n\n{}", base_text(&line.base));
    if let (BaseSelector::Scratch(_), Some(size)) = (&line.base, &line.size) {
        text.push_str(&format!("\n[disk]\nsize = {}\n", quote(size)));
    }
    if !line.packages.is_empty() {
        text.push_str("\n[[step]]\nuse = \"package\"\ninstall = [\n");
        for package in &line.packages {
            text.push_str(&format!("    {},\n", quote(package)));
        }
        text.push_str("]\n");
    }
    Source { name: "the command line, as a recipe".to_owned(), text }
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The section `[base]` that means a selector.
pub fn base_text(base: &BaseSelector) -> String {
    let list = |items: &[String]| {
        let items: Vec<_> = items.iter().map(|item| quote(item)).collect();
        format!("[{}]", items.join(", "))
    };
    let mut text = "[base]\n".to_owned();
    let mut say = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
    let mut bare = |key: &str, id: &str, arch: &Option<String>, root_device: &Option<String>| {
        say(key, quote(id));
        for (key, value) in [("arch", arch), ("root_device", root_device)] {
            if let Some(value) = value {
                say(key, quote(value));
            }
        }
    };
    match base {
        BaseSelector::Snapshot { id, arch, root_device } => bare("snapshot", id, arch, root_device),
        BaseSelector::Volume { id, arch, root_device } => bare("volume", id, arch, root_device),
        BaseSelector::Device { path, arch, root_device } => {
            bare("device", &path.to_string_lossy(), arch, root_device);
        }
        BaseSelector::Scratch(spec) => {
            say("scratch", spec.text(&quote));
            for (key, value) in [("arch", &spec.arch), ("root_device", &spec.root_device)] {
                if let Some(value) = value {
                    say(key, quote(value));
                }
            }
        }
        BaseSelector::Ami(id) => say("ami", quote(id)),
        BaseSelector::Parameter(name) => say("parameter", quote(name)),
        BaseSelector::Image(name) => say("image", quote(name)),
        BaseSelector::Query(query) => {
            if let Some(name) = &query.name {
                say("name", quote(name));
            }
            if !query.owners.is_empty() {
                say("owners", list(&query.owners));
            }
            if let Some(arch) = &query.arch {
                say("arch", quote(arch));
            }
            if !query.filters.is_empty() {
                let filters: Vec<_> = query
                    .filters
                    .iter()
                    .map(|(name, values)| format!("{} = {}", quote(name), list(values)))
                    .collect();
                say("filters", format!("{{ {} }}", filters.join(", ")));
            }
            say("newest", query.newest.to_string());
            say("deprecated", query.deprecated.to_string());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::ImageQuery;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_words_come_through(glob in "[^\\x00-\\x1f\\x7f-\\u{9f} ][^\\x00-\\x1f\\x7f-\\u{9f}]{0,20}", packages in proptest::collection::vec("[^\\x00]{1,20}", 0..4)) {
            let base = BaseSelector::Query(ImageQuery::named(&glob));
            let line = OneLine { base: base.clone(), packages: packages.clone(), size: None, name: None };
            let recipe = crate::recipe::parse(&one_line(&line)).unwrap();
            prop_assert_eq!(recipe.base.value, base);
            let given = recipe.steps.first().map(|step| step.params["install"].value.clone());
            let wanted = (!packages.is_empty()).then(|| packages.clone());
            let texts = given.map(|value| match value {
                crate::recipe::RawValue::Array(items) => items.into_iter().map(|item| match item.value {
                    crate::recipe::RawValue::String(text) => text,
                    other => panic!("{other:?}"),
                }).collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            });
            prop_assert_eq!(texts, wanted);
        }
    }
}
