//! Templates of names, descriptions and tags: `{version}` and its like are filled in, `{{` and `}}` are braces.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What a plan can fill in before the first effect, besides `{env:NAME}`.
pub const SETTLED: [&str; 4] = ["arch", "time", "date", "base"];

/// What is known only once the main package is installed.
pub const OPEN: [&str; 3] = ["package", "version", "release"];

/// One part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it stands.
    Literal(String),
    /// A placeholder's name: one of [`SETTLED`] or [`OPEN`], or `env:NAME`.
    Placeholder(String),
}

/// What is wrong with a template, and where (bytes of the template).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Range<usize>,
    /// What to do.
    pub help: Option<String>,
}

/// A placeholder that nothing fills.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing fills {{{0}}}")]
pub struct Unfilled(
    /// Its name.
    pub String,
);

/// A template. Its `Display` is its text again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// Everything that is wrong with it: unknown placeholders, braces without their partner.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateError>> {
        let mut parts = Vec::new();
        let mut errors = Vec::new();
        let mut literal = String::new();
        let mut rest = text.char_indices().peekable();
        while let Some((start, character)) = rest.next() {
            let doubled = rest.peek().is_some_and(|(_, next)| *next == character);
            match character {
                '{' | '}' if doubled => {
                    rest.next();
                    literal.push(character);
                }
                '}' => errors.push(TemplateError {
                    message: "a `}` that closes nothing".to_owned(),
                    span: start..start + 1,
                    help: Some("write }} for a brace".to_owned()),
                }),
                '{' => {
                    let mut name = String::new();
                    let mut closed = None;
                    while let Some((at, next)) = rest.next_if(|(_, next)| *next != '{') {
                        if next == '}' {
                            closed = Some(at + 1);
                            break;
                        }
                        name.push(next);
                    }
                    match closed {
                        Some(end) => match unknown(&name) {
                            None => {
                                if !literal.is_empty() {
                                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                                }
                                parts.push(Part::Placeholder(name));
                            }
                            Some((message, help)) => {
                                errors.push(TemplateError { message, span: start..end, help: Some(help) });
                            }
                        },
                        None => errors.push(TemplateError {
                            message: "a `{` that is not closed".to_owned(),
                            span: start..start + 1,
                            help: Some("write {{ for a brace".to_owned()),
                        }),
                    }
                }
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if errors.is_empty() { Ok(Self { parts }) } else { Err(errors) }
    }

    /// The placeholders, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Whether it needs what is known only once the main package is installed.
    pub fn is_open(&self) -> bool {
        self.placeholders().any(|name| OPEN.contains(&name))
    }

    /// The text with every placeholder filled from `vars` (keyed `arch`, `env:HOME`, …).
    ///
    /// # Errors
    /// The first placeholder that `vars` doesn't know.
    pub fn fill(&self, vars: &BTreeMap<String, String>) -> Result<String, Unfilled> {
        let filled = self.fill_but(vars, &[])?;
        Ok(filled
            .parts
            .into_iter()
            .map(|part| match part {
                Part::Literal(text) | Part::Placeholder(text) => text,
            })
            .collect())
    }

    /// The template with every placeholder filled from `vars`, but for those in `open` that `vars` doesn't know:
    /// they are left for a later [`Template::fill`].
    ///
    /// # Errors
    /// The first other placeholder that `vars` doesn't know.
    pub fn fill_but(&self, vars: &BTreeMap<String, String>, open: &[&str]) -> Result<Self, Unfilled> {
        let mut parts: Vec<Part> = Vec::new();
        for part in &self.parts {
            let filled = match part {
                Part::Literal(text) => text,
                Part::Placeholder(name) => match vars.get(name) {
                    Some(value) => value,
                    None if open.contains(&name.as_str()) => {
                        parts.push(part.clone());
                        continue;
                    }
                    None => return Err(Unfilled(name.clone())),
                },
            };
            match parts.last_mut() {
                Some(Part::Literal(text)) => text.push_str(filled),
                _ if filled.is_empty() => {}
                _ => parts.push(Part::Literal(filled.clone())),
            }
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Literal(text) => f.write_str(&escape(text))?,
                Part::Placeholder(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// The template that stands for a text as it is: its braces doubled.
pub fn escape(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// What is wrong with a placeholder's name and what to do, if anything is.
fn unknown(name: &str) -> Option<(String, String)> {
    if let Some(variable) = name.strip_prefix("env:") {
        let good = !variable.is_empty()
            && !variable.starts_with(|c: char| c.is_ascii_digit())
            && variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        return (!good).then(|| {
            let message = format!("`{{{}}}` names no environment variable", super::reader::shown(name));
            (message, "write {env:NAME}, of letters, digits and `_`".to_owned())
        });
    }
    let known: Vec<&str> = SETTLED.iter().chain(&OPEN).copied().collect();
    if known.contains(&name) {
        return None;
    }
    let help = match super::reader::did_you_mean(name, &known) {
        Some(near) => format!("did you mean {{{near}}}?"),
        None => {
            format!("known are {{{}}}, {{var:NAME}} and {{env:NAME}}; {{{{ is a brace", known.join("}, {"))
        }
    };
    Some((format!("unknown placeholder `{{{}}}`", super::reader::shown(name)), help))
}

/// Whether a character may be in an image's name.
pub(crate) fn allowed_in_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || "()[] ./-'@_".contains(character)
}

/// The characters of a template's own text, without its placeholders, each with its place.
pub(crate) fn literals(template: &str) -> impl Iterator<Item = (usize, char)> {
    let mut characters = template.char_indices().peekable();
    std::iter::from_fn(move || {
        loop {
            let (place, character) = characters.next()?;
            let doubled =
                characters.next_if(|(_, next)| "{}".contains(character) && *next == character).is_some();
            if character != '{' || doubled {
                return Some((place, character));
            }
            while characters.next_if(|(_, next)| *next != '}').is_some() {}
            characters.next();
        }
    })
}

/// The most characters of an image's name (EC2's rule for AMIs, held to everywhere).
pub const LONGEST_NAME: usize = 128;

/// Checks an image's name after its template was filled: 3 to 128 characters of `A-Za-z0-9()[] ./-'@_`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_image_name(name: &str) -> Result<(), String> {
    if let Some(character) = name.chars().find(|character| !allowed_in_name(*character)) {
        return Err(format!(
            "the image's name {name:?} holds {character:?}; allowed are letters, digits and ( ) [ ] space . / - ' @ _"
        ));
    }
    match name.len() {
        3..=LONGEST_NAME => Ok(()),
        length => Err(format!(
            "the image's name {name:?} has {length} characters; it must have 3 to {LONGEST_NAME}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn fills_and_leaves_open() {
        let template = Template::parse("web-{version}-{arch}-{{x}}-{env:STAGE}").unwrap();
        assert!(template.is_open());
        let known = vars(&[("arch", "arm64"), ("env:STAGE", "{prod}")]);
        assert_eq!(template.fill(&known), Err(Unfilled("version".to_owned())));
        let open = template.fill_but(&known, &OPEN).unwrap();
        assert_eq!(open.to_string(), "web-{version}-arm64-{{x}}-{{prod}}");
        let again = Template::parse(&open.to_string()).unwrap();
        assert_eq!(again, open);
        assert_eq!(again.fill(&vars(&[("version", "1.4")])).unwrap(), "web-1.4-arm64-{x}-{prod}");
    }

    #[test]
    fn tells_everything_wrong_with_its_place() {
        let errors = Template::parse("a}b-{versoin}-{env:1}-{").unwrap_err();
        let told: Vec<_> = errors.iter().map(|error| (error.message.as_str(), error.span.clone())).collect();
        assert_eq!(
            told,
            [
                ("a `}` that closes nothing", 1..2),
                ("unknown placeholder `{versoin}`", 4..13),
                ("`{env:1}` names no environment variable", 14..21),
                ("a `{` that is not closed", 22..23),
            ]
        );
        assert_eq!(errors[1].help.as_deref(), Some("did you mean {version}?"));
    }

    #[test]
    fn names() {
        assert_eq!(check_image_name("web-1.4 (x) [y] a/b'c@d_e"), Ok(()));
        for wrong in ["ab", "a:b", "wéb", &"x".repeat(129)] {
            assert!(check_image_name(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_errors_within_it(text in "[a-z{}é:]{0,40}") {
            match Template::parse(&text) {
                Ok(template) => {
                    prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
                }
                Err(errors) => {
                    prop_assert!(!errors.is_empty());
                    for error in errors {
                        prop_assert!(text.get(error.span).is_some());
                    }
                }
            }
        }

        #[test]
        fn a_text_with_its_braces_doubled_fills_to_itself(text in "\\PC{0,40}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(Template::parse(&doubled).unwrap().fill(&BTreeMap::new()).unwrap(), text);
        }

        #[test]
        fn filling_in_two_goes_is_filling_in_one(arch in "\\PC{0,8}", version in "\\PC{0,8}") {
            let template = Template::parse("{arch}{{{version}}}{arch}").unwrap();
            let first = template.fill_but(&vars(&[("arch", &arch)]), &OPEN).unwrap();
            let two = Template::parse(&first.to_string()).unwrap().fill(&vars(&[("version", &version)])).unwrap();
            let one = template.fill(&vars(&[("arch", &arch), ("version", &version)])).unwrap();
            prop_assert_eq!(one, two);
        }
    }
}
