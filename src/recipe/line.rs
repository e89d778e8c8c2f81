//! The one-line form: a base and packages, as a recipe's text. It then goes the recipe's way.

use super::{BaseSelector, Source};

/// What the one-line form says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneLine {
    /// The base.
    pub base: BaseSelector,
    /// Package specs as typed.
    pub packages: Vec<String>,
    /// The image's name template; `{package}-{version}-{arch}-{time}` where left out, `{base}-{time}` without packages.
    pub name: Option<String>,
}

/// The recipe's text that a one-line form means. Complaints about it show it.
pub fn one_line(line: &OneLine) -> Source {
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let default =
        if line.packages.is_empty() { "{base}-{time}" } else { "{package}-{version}-{arch}-{time}" };
    let mut text = format!("[image]\nname = {}\n\n[base]\n", quote(line.name.as_deref().unwrap_or(default)));
    let mut say = |key: &str, value: &str| text.push_str(&format!("{key} = {}\n", quote(value)));
    match &line.base {
        BaseSelector::Ami(id) => say("ami", id),
        BaseSelector::Name { glob, owner, arch, newest } => {
            say("name", glob);
            if let Some(owner) = owner {
                say("owner", owner);
            }
            if let Some(arch) = arch {
                say("arch", arch);
            }
            text.push_str(&format!("newest = {newest}\n"));
        }
        BaseSelector::Parameter(name) => say("parameter", name),
        BaseSelector::Snapshot { id, arch, root_device } => {
            say("snapshot", id);
            if let Some(arch) = arch {
                say("arch", arch);
            }
            if let Some(device) = root_device {
                say("root_device", device);
            }
        }
        BaseSelector::Image(name) => say("image", name),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_words_come_through(glob in "[^\\x00-\\x1f\\x7f-\\u{9f} ][^\\x00-\\x1f\\x7f-\\u{9f}]{0,20}", packages in proptest::collection::vec("[^\\x00]{1,20}", 0..4)) {
            let base = BaseSelector::Name { glob, owner: None, arch: None, newest: true };
            let line = OneLine { base: base.clone(), packages: packages.clone(), name: None };
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
