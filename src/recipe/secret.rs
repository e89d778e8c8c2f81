//! `secrets` of a step: what it needs and nobody may see, named by where the builder has it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::reader::{Complaints, Table, listed, shown};
use super::{Complaint, Spanned};

/// Where the builder has a secret. The value itself is in no recipe and in no plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// An environment variable of the builder.
    Env(String),
    /// A file of the builder.
    File(PathBuf),
    /// A SecureString of SSM's Parameter Store.
    Parameter(String),
}

impl std::fmt::Display for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Parameter(name) => write!(f, "the parameter {name}"),
        }
    }
}

const SOURCES: [&str; 3] = ["env", "file", "parameter"];

/// Reads a step's `secrets`: a table of names, each with where its value is.
pub(super) fn secrets(
    table: &mut Table,
    complaints: &mut Complaints,
) -> BTreeMap<String, Spanned<SecretSource>> {
    let mut secrets = BTreeMap::new();
    let Some(table) = table.table("secrets", complaints) else { return secrets };
    for (name, value) in table.all() {
        let good = name.value.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !good || name.value.is_empty() || name.value.starts_with('.') || name.value.len() > 100 {
            let message = format!("`{}` can't be a secret's name", shown(&name.value));
            complaints.push(
                Complaint::new(message, name.span.clone())
                    .help("it is a file's name: letters, digits, `_`, `-` and `.`"),
            );
        }
        let what = format!("the secret `{}`", shown(&name.value));
        let Some(mut one) = Table::of(&what, value, complaints) else { continue };
        if let Some(source) = source(&what, &mut one, complaints) {
            secrets.insert(name.value.clone(), source);
        }
        one.finish(complaints);
    }
    secrets
}

fn source(what: &str, table: &mut Table, complaints: &mut Complaints) -> Option<Spanned<SecretSource>> {
    let found: Vec<_> =
        SOURCES.into_iter().filter_map(|key| Some((key, table.string(key, complaints)?))).collect();
    let [(key, text)] = found.as_slice() else {
        let message = match found.as_slice() {
            [] if table.all().iter().any(|(key, _)| SOURCES.contains(&key.value.as_str())) => return None,
            [] => format!("{what} does not say where it is"),
            _ => format!("{what} is in more than one place"),
        };
        complaints
            .push(Complaint::new(message, table.span.clone()).help(format!("one of {}", listed(&SOURCES))));
        return None;
    };
    let value = text.value.as_str();
    let (good, must) = match *key {
        "env" => (
            !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
            "the name of an environment variable",
        ),
        "file" => (!value.is_empty() && !value.contains('\n'), "the path of a file"),
        _ => (
            !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/:".contains(c)),
            "the name of an SSM parameter",
        ),
    };
    if !good {
        complaints.push(
            Complaint::new(format!("`{key}` of {what} must be {must}"), text.span.clone()).label("is none"),
        );
        return None;
    }
    let source = match *key {
        "env" => SecretSource::Env(value.to_owned()),
        "file" => SecretSource::File(PathBuf::from(value)),
        _ => SecretSource::Parameter(value.to_owned()),
    };
    Some(Spanned { value: source, span: text.span.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Source, parse};

    fn read(secrets: &str) -> Result<BTreeMap<String, SecretSource>, Vec<String>> {
        let text = format!(
            "[image]\nname = 'web'\n[base]\nimage = 'x'\n[[step]]\nuse = 'script'\nrun = ['true']\nsecrets = {secrets}\n"
        );
        parse(&Source { name: "web.toml".into(), text })
            .map(|recipe| {
                let secrets = recipe.steps[0].secrets.clone().into_iter();
                secrets.map(|(name, source)| (name, source.value)).collect()
            })
            .map_err(|complaints| complaints.into_iter().map(|one| one.message).collect())
    }

    #[test]
    fn secrets_say_where_they_are() {
        let secrets =
            read("{ TOKEN = { env = 'TOKEN' }, 'a.key' = { file = 'a/key' }, db = { parameter = '/db/password' } }")
                .unwrap();
        assert_eq!(secrets["TOKEN"], SecretSource::Env("TOKEN".into()));
        assert_eq!(secrets["a.key"], SecretSource::File("a/key".into()));
        assert_eq!(secrets["db"], SecretSource::Parameter("/db/password".into()));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (secrets, told) in [
            ("['x']", "must be a table"),
            ("{ a = 'x' }", "must be a table"),
            ("{ a = {} }", "does not say where"),
            ("{ a = { env = 'A', file = 'a' } }", "more than one place"),
            ("{ a = { evn = 'A' } }", "unknown key `evn`"),
            ("{ a = { env = 'A B' } }", "must be the name of an environment variable"),
            ("{ '../a' = { env = 'A' } }", "can't be a secret's name"),
            ("{ a = { parameter = 'a b' } }", "must be the name of an SSM parameter"),
        ] {
            let wrong = read(secrets).unwrap_err();
            assert!(wrong.iter().any(|one| one.contains(told)), "{secrets}: {wrong:?}");
        }
    }
}
