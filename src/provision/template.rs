//! Files that are templates: filled in by the builder, from the recipe's variables and the bake's facts, before a
//! step sees them. No program of the image has a part in it.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use crate::error::{Failure, Kind};
use crate::recipe::Variables;

/// What templates call the bake's facts.
const FACT: &str = "fact";
/// A template larger than this (bytes) is none.
const LARGEST: u64 = 16 << 20;

/// What templates are filled in with: variables by their names, facts as `fact.NAME`.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    variables: Variables,
    facts: BTreeMap<String, String>,
}

impl Words {
    pub(super) fn new(variables: &Variables, facts: &BTreeMap<String, String>) -> Self {
        Self { variables: variables.clone(), facts: facts.clone() }
    }

    /// The same, with more facts.
    pub(super) fn with(&self, facts: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Self {
        let mut words = self.clone();
        words.facts.extend(facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?))));
        words
    }

    /// Fills in a text; `name` is what messages call it.
    ///
    /// # Errors
    /// [`Kind::Recipe`]: it is no template, or asks for what nobody knows; with its line.
    fn fill(&self, name: &str, text: &str) -> Result<String, Failure> {
        let environment = environment();
        let wrong = |error: minijinja::Error| self.failure(name, &error);
        let template = environment.template_from_named_str(name, text).map_err(wrong)?;
        let variables =
            self.variables.0.iter().map(|(name, one)| (name.clone(), Value::from_serialize(&one.value)));
        let facts = std::iter::once((FACT.to_owned(), Value::from_serialize(&self.facts)));
        template.render(Value::from_iter(variables.chain(facts))).map_err(wrong)
    }

    fn failure(&self, name: &str, error: &minijinja::Error) -> Failure {
        let line = error.line().map_or_else(String::new, |line| format!(":{line}"));
        let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let failure = Failure::new(Kind::Recipe, format!("filling in {name}{line}: {detail}"));
        match error.kind() {
            ErrorKind::UndefinedError => {
                let known = |names: Vec<&String>| match names.as_slice() {
                    [] => "none".to_owned(),
                    names => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
                };
                let (variables, facts) = (self.variables.0.keys().collect(), self.facts.keys().collect());
                failure.hint(format!(
                    "[vars] declares {}; facts are fact.NAME, of {}",
                    known(variables),
                    known(facts)
                ))
            }
            _ => failure.hint(
                "templates are Jinja's: {{ name }}, {% if … %}, {# … #}; {% raw %} keeps braces as they are",
            ),
        }
    }
}

/// Strict, without any escaping, blocks on lines of their own leave none.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    // As TOML, JSON and nearly every configuration have them; Jinja's own would be Python's.
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool => minijinja::escape_formatter(out, state, &Value::from(value.is_true().to_string())),
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment
}

/// Writes the template at `from`, a file or a folder of files, to `to`, filled in; each with its own mode and time.
pub(super) fn render(from: &Path, to: &Path, words: &Words) -> Result<()> {
    each(from, to, &mut |from, to, text| {
        let filled = words.fill(&from.display().to_string(), &text)?;
        let writing = || format!("writing {}", to.display());
        std::fs::write(to, filled).with_context(writing)?;
        let meta = std::fs::metadata(from).with_context(|| format!("looking at {}", from.display()))?;
        let file = std::fs::File::options().write(true).open(to).with_context(writing)?;
        if let Ok(modified) = meta.modified() {
            file.set_modified(modified).with_context(writing)?;
        }
        file.set_permissions(Permissions::from_mode(meta.permissions().mode() & 0o7777)).with_context(writing)
    })
}

/// Looks whether the template at `from` can be filled in, as far as that is known before the bake: one that asks
/// for facts is looked at for its syntax alone.
///
/// # Errors
/// As for filling it in.
pub fn check(from: &Path, variables: &Variables) -> Result<()> {
    let words = Words::new(variables, &BTreeMap::new());
    each(from, Path::new(""), &mut |from, _, text| {
        let name = from.display().to_string();
        if text.contains(FACT) {
            let parsed = environment().template_from_named_str(&name, &text).map(|_| ());
            return parsed.map_err(|error| words.failure(&name, &error).into());
        }
        words.fill(&name, &text)?;
        Ok(())
    })
}

/// Goes through a file, or a folder's files, with the text of each; makes the folders at `to` where that is a path.
fn each(from: &Path, to: &Path, work: &mut dyn FnMut(&Path, &Path, String) -> Result<()>) -> Result<()> {
    let looking = || format!("looking at {}", from.display());
    let meta = std::fs::metadata(from).with_context(looking)?;
    if meta.is_file() {
        if meta.len() > LARGEST {
            bail!(
                Failure::new(
                    Kind::Recipe,
                    format!("{} is no template: it is larger than 16 MiB", from.display())
                )
                .hint("copy it without `template`")
            );
        }
        let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::new(Kind::Recipe, format!("{} is no template: it is not UTF-8 text", from.display()))
                .hint("copy it without `template`")
        })?;
        return work(from, to, text);
    }
    if !meta.is_dir() {
        bail!("{} is neither a file nor a folder", from.display());
    }
    let makes = !to.as_os_str().is_empty();
    if makes {
        std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
        std::fs::set_permissions(to, meta.permissions())
            .with_context(|| format!("making {}", to.display()))?;
    }
    let mut names = std::fs::read_dir(from)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<std::io::Result<Vec<_>>>()
        })
        .with_context(looking)?;
    names.sort();
    for name in names {
        let (from, below) = (from.join(&name), if makes { to.join(&name) } else { to.to_owned() });
        let kind = std::fs::symlink_metadata(&from).with_context(looking)?;
        if !kind.is_symlink() {
            each(&from, &below, work)?;
        } else if makes {
            let target = std::fs::read_link(&from).with_context(looking)?;
            std::os::unix::fs::symlink(target, &below)
                .with_context(|| format!("making {}", below.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Source, parse};

    fn variables() -> Variables {
        let text = "vars = { stage = 'prod', port = 80, tls = false }\nimage.name = 'web'\nbase.image = 'x'";
        parse(&Source { name: "web.toml".into(), text: text.into() }).unwrap().variables
    }

    fn fill(text: &str) -> Result<String, String> {
        let facts = BTreeMap::from([("arch".to_owned(), "arm64".to_owned())]);
        let words = Words::new(&variables(), &facts)
            .with([("distribution", Some("debian".into())), ("release", None)]);
        words
            .fill("site.html", text)
            .map_err(|failure| format!("{} / {}", failure.message, failure.hint.unwrap_or_default()))
    }

    #[test]
    fn variables_and_facts_are_filled_in() {
        let text = "listen {{ port + 1 }};\n  {% if tls %}\nssl;\n  {% endif %}\n<{{ stage|upper }}&>\n{{ fact.arch }} {{ fact.distribution }}\n";
        assert_eq!(fill(text).unwrap(), "listen 81;\n<PROD&>\narm64 debian\n");
        assert_eq!(fill("{% raw %}{{ x }}{% endraw %} ${y}").unwrap(), "{{ x }} ${y}");
        assert_eq!(fill("{{ fact.release is defined }} {{ tls }}").unwrap(), "false false");
    }

    #[test]
    fn what_nobody_knows_is_told_with_its_line() {
        let wrong = fill("a\nb {{ stgae }}\n").unwrap_err();
        assert!(
            wrong.starts_with("filling in site.html:2: ")
                && wrong.contains("[vars] declares port, stage, tls"),
            "{wrong}"
        );
        assert!(wrong.contains("arch, distribution"), "{wrong}");
        let wrong = fill("{{ fact.release }}").unwrap_err();
        assert!(wrong.starts_with("filling in site.html:1: "), "{wrong}");
        let wrong = fill("\n{% if stage %}\n").unwrap_err();
        assert!(wrong.contains("site.html:") && wrong.contains("Jinja"), "{wrong}");
        assert!(fill("{% include '/etc/passwd' %}").is_err());
    }

    #[test]
    fn folders_are_filled_in_whole_and_keep_modes_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir_all(from.join("below")).unwrap();
        std::fs::write(from.join("below/run"), "#!/bin/sh\necho {{ stage }}\n").unwrap();
        std::fs::set_permissions(from.join("below/run"), Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("below/run", from.join("link")).unwrap();
        check(&from, &variables()).unwrap();
        render(&from, &to, &Words::new(&variables(), &BTreeMap::new())).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("below/run")).unwrap(), "#!/bin/sh\necho prod\n");
        assert_eq!(std::fs::metadata(to.join("below/run")).unwrap().permissions().mode() & 0o7777, 0o750);
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("below/run"));

        std::fs::write(from.join("binary"), b"\xff\x00").unwrap();
        assert!(check(&from, &variables()).unwrap_err().to_string().contains("not UTF-8"));
        std::fs::write(from.join("binary"), "{{ nothing }}").unwrap();
        assert!(check(&from, &variables()).unwrap_err().to_string().contains("binary:1"));
        std::fs::write(from.join("binary"), "{{ fact.anything }}").unwrap();
        check(&from, &variables()).unwrap();
    }
}
