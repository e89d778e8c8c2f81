//! Families of images: those that one recipe makes, one after the other. The name's template says which: what
//! changes from bake to bake is left out of it.

use std::collections::BTreeMap;

use super::template::{Part, Template, escape};

/// Words that differ from bake to bake, or from one architecture's image to the other's.
const VOLATILE: [&str; 6] = ["version", "release", "time", "date", "arch", "base"];

/// What stands between a name's parts.
const SEPARATORS: [char; 6] = ['-', '_', '.', '/', ' ', '@'];

/// The family of the images that a name's template names, as a template in which `{package}` and `{env:NAME}` may
/// stand; none where nothing of it stays the same.
pub fn of_template(name: &str) -> Option<String> {
    let template = Template::parse(name).ok()?;
    let mut family = String::new();
    let mut says_something = false;
    for part in &template.parts {
        match part {
            Part::Literal(text) => {
                let text =
                    if ends_open(&family) { text.trim_start_matches(SEPARATORS) } else { text.as_str() };
                says_something |= text.chars().any(char::is_alphanumeric);
                family.push_str(&escape(text));
            }
            Part::Placeholder(word) if VOLATILE.contains(&word.as_str()) => {}
            Part::Placeholder(word) => {
                says_something = true;
                family.push_str(&format!("{{{word}}}"));
            }
        }
    }
    says_something.then(|| family.trim_end_matches(SEPARATORS).to_owned())
}

fn ends_open(text: &str) -> bool {
    text.is_empty() || text.ends_with(SEPARATORS)
}

/// The family of a name whose template nobody knows: what stands before its first version, time or architecture.
pub fn of_name(name: &str) -> String {
    let volatile = |word: &&str| {
        let digits = word.strip_prefix('v').unwrap_or(word);
        !digits.starts_with(|c: char| c.is_ascii_digit())
            && !matches!(*word, "x86_64" | "arm64" | "amd64" | "aarch64")
    };
    let stem: Vec<_> = name.split(['-', ' ']).take_while(volatile).collect();
    if stem.is_empty() { name.to_owned() } else { stem.join("-") }
}

/// Whether a name's template may have made a name. `known` has what is the same in every bake, as `env:STAGE`.
pub fn may_have_named(template: &str, name: &str, known: &BTreeMap<String, String>) -> bool {
    Template::parse(template).is_ok_and(|template| matches(&template.parts, name, known))
}

/// Whether a template says anything of its own, so that not every name may be its.
pub fn is_telling(template: &str) -> bool {
    let Ok(template) = Template::parse(template) else { return false };
    let literal =
        |part: &Part| matches!(part, Part::Literal(text) if text.chars().any(char::is_alphanumeric));
    template.parts.iter().any(literal)
}

/// The environment variables that a template names.
pub fn env_words(template: &str) -> Vec<String> {
    let Ok(template) = Template::parse(template) else { return Vec::new() };
    template.placeholders().filter_map(|word| word.strip_prefix("env:")).map(str::to_owned).collect()
}

fn matches(parts: &[Part], name: &str, known: &BTreeMap<String, String>) -> bool {
    match parts {
        [] => name.is_empty(),
        [Part::Literal(text), rest @ ..] => {
            name.strip_prefix(text.as_str()).is_some_and(|name| matches(rest, name, known))
        }
        [Part::Placeholder(word), rest @ ..] => match known.get(word) {
            Some(value) => name.strip_prefix(value.as_str()).is_some_and(|name| matches(rest, name, known)),
            None => {
                let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
                ends.filter_map(|end| name.split_at_checked(end))
                    .any(|(value, after)| is_value(word, value) && matches(rest, after, known))
            }
        },
    }
}

/// Whether a word may have been filled in so.
fn is_value(word: &str, value: &str) -> bool {
    let shaped = |shape: &str| {
        value.len() == shape.len()
            && value.bytes().zip(shape.bytes()).all(|(byte, like)| match like {
                b'0' => byte.is_ascii_digit(),
                like => byte == like,
            })
    };
    match word {
        "arch" => matches!(value, "x86_64" | "arm64"),
        "time" => shaped("00000000T000000Z"),
        "date" => shaped("0000-00-00"),
        "release" => true,
        _ => !value.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_what_stays_of_a_name() {
        for (template, family) in [
            ("web-{version}-{arch}-{time}", Some("web")),
            ("{package}-{version}-{release}-{arch}-{time}", Some("{package}")),
            ("web {arch} for {env:STAGE} {time}", Some("web for {env:STAGE}")),
            ("{time}-web-{version}-front", Some("web-front")),
            ("web{{1}}-{date}", Some("web{{1}}")),
            ("web", Some("web")),
            ("{arch}-{time}", None),
        ] {
            assert_eq!(of_template(template).as_deref(), family, "{template}");
        }
    }

    #[test]
    fn a_name_tells_its_family_where_no_tag_does() {
        for (name, family) in [
            ("web-1.4.2-x86_64-20261123T051039Z", "web"),
            ("web-front-v2-arm64", "web-front"),
            ("debian-12-amd64-20260101", "debian"),
            ("golden", "golden"),
            ("2026-web", "2026-web"),
        ] {
            assert_eq!(of_name(name), family, "{name}");
        }
    }

    #[test]
    fn a_template_knows_the_names_that_it_made() {
        let template = "web-{version}-{arch}-{time}";
        let none = BTreeMap::new();
        let named = |name: &str| may_have_named(template, name, &none);
        assert!(named("web-1.4.2-x86_64-20261123T051039Z"));
        assert!(named("web-1.4-2-arm64-20261123T051039Z"));
        assert!(!named("web-1.4.2-x86_64-20261123"), "no time");
        assert!(!named("web-front"), "nothing of the rest");
        assert!(!named("my-web-1.4.2-x86_64-20261123T051039Z"));
        let known = BTreeMap::from([("env:STAGE".to_owned(), "prod".to_owned())]);
        assert!(may_have_named("web-{env:STAGE}-{date}", "web-prod-2026-11-23", &known));
        assert!(!may_have_named("web-{env:STAGE}-{date}", "web-test-2026-11-23", &known));
        assert!(is_telling(template) && !is_telling("{package}-{version}"));
    }
}
