//! `when`: the images that a step is for.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};

use super::reader::{Complaints, Table, did_you_mean, listed, shown, wrong_type};
use super::{Complaint, RawValue, Spanned, StepSpec, Variables};

/// A step's condition: all that is said must hold. In each list any one must, and none that begins with `!`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct When {
    /// `distribution`: the image's `ID`, or one of its `ID_LIKE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distribution: Vec<String>,
    /// `release`: the image's `VERSION_ID`, as a glob or compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<String>,
    /// `arch`: `x86_64` or `arm64`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<String>,
    /// `var`: variables and the values that they may have, as globs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub var: BTreeMap<String, Vec<String>>,
}

/// `when` as the recipe has it.
#[derive(Debug, Clone, PartialEq)]
pub struct WhenSpec {
    /// What it says.
    pub when: When,
    /// The variables that it names, and where.
    pub names: Vec<Spanned<String>>,
}

/// What an image says of itself in os-release(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// `ID`, then `ID_LIKE`, lower case.
    pub families: Vec<String>,
    /// `VERSION_ID`.
    pub version: Option<String>,
}

impl When {
    /// Judges what is known before the root is mounted.
    ///
    /// # Errors
    /// Why the step is not for it.
    pub fn judge_plan(&self, arch: &str, variables: &Variables) -> Result<(), String> {
        if !any(&self.arch, |wanted| wanted == arch) {
            return Err(format!("the image is {arch}, and the step is for {}", self.arch.join(", ")));
        }
        for (name, wanted) in &self.var {
            let value = variables.get(name).map(ToString::to_string).unwrap_or_default();
            if !any(wanted, |wanted| glob(wanted).is_some_and(|glob| glob.is_match(&value))) {
                return Err(format!("{name} is {value:?}, and the step is for {}", wanted.join(", ")));
            }
        }
        Ok(())
    }

    /// Whether it asks what only the mounted root tells.
    pub fn asks_root(&self) -> bool {
        !self.distribution.is_empty() || !self.release.is_empty()
    }

    /// Judges what the root tells.
    ///
    /// # Errors
    /// Why the step is not for it.
    pub fn judge_root(&self, release: &Release) -> Result<(), String> {
        if !any(&self.distribution, |wanted| release.families.iter().any(|family| family == wanted)) {
            let families = match release.families.as_slice() {
                [] => "of no known distribution".to_owned(),
                families => families.join(", "),
            };
            return Err(format!(
                "the image is {families}, and the step is for {}",
                self.distribution.join(", ")
            ));
        }
        let Some(version) = &release.version else {
            return match self.release.is_empty() {
                true => Ok(()),
                false => Err("the image's os-release has no VERSION_ID".to_owned()),
            };
        };
        if any(&self.release, |wanted| is_release(wanted, version)) {
            return Ok(());
        }
        Err(format!("the image's release is {version}, and the step is for {}", self.release.join(" or ")))
    }
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        for (name, wanted, or) in [
            ("distribution", &self.distribution, ", "),
            ("release", &self.release, " or "),
            ("arch", &self.arch, ", "),
        ] {
            if !wanted.is_empty() {
                parts.push(format!("{name} {}", wanted.join(or)));
            }
        }
        parts.extend(self.var.iter().map(|(name, wanted)| format!("{name} = {}", wanted.join(", "))));
        f.write_str(&parts.join(" and "))
    }
}

/// Whether any of the wanted holds (where there are any) and none of those with a `!` does.
fn any(wanted: &[String], holds: impl Fn(&str) -> bool) -> bool {
    let (mut wants, mut has) = (false, false);
    for one in wanted {
        match one.strip_prefix('!') {
            Some(refused) if holds(refused) => return false,
            Some(_) => {}
            None => {
                wants = true;
                has |= holds(one);
            }
        }
    }
    has || !wants
}

const COMPARISONS: [&str; 5] = [">=", "<=", ">", "<", "="];

/// Whether a release is the wanted one: `9.*`, `12`, `>=12`, and with commas all of them: `>=20.04, <24`.
fn is_release(wanted: &str, version: &str) -> bool {
    wanted.split(',').map(str::trim).all(|wanted| match comparison(wanted) {
        Some((sign, than)) => {
            let order = compare(version, than);
            match sign {
                ">=" => order != Ordering::Less,
                "<=" => order != Ordering::Greater,
                ">" => order == Ordering::Greater,
                "<" => order == Ordering::Less,
                _ => order == Ordering::Equal,
            }
        }
        None => glob(wanted).is_some_and(|glob| glob.is_match(version)),
    })
}

fn comparison(wanted: &str) -> Option<(&'static str, &str)> {
    COMPARISONS.iter().find_map(|sign| Some((*sign, wanted.strip_prefix(sign)?.trim())))
}

/// Versions of numbers with dots between them; 12 is 12.0. What is no number counts as 0.
fn compare(one: &str, other: &str) -> Ordering {
    let numbers =
        |text: &str| -> Vec<u64> { text.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    let (mut one, mut other) = (numbers(one), numbers(other));
    let length = one.len().max(other.len());
    one.resize(length, 0);
    other.resize(length, 0);
    one.cmp(&other)
}

fn glob(text: &str) -> Option<GlobMatcher> {
    GlobBuilder::new(text).literal_separator(false).build().ok().map(|glob| glob.compile_matcher())
}

/// Reads a step's `when`.
pub(super) fn when(table: &mut Table, complaints: &mut Complaints) -> Option<WhenSpec> {
    let value = table.get("when")?;
    let mut table = Table::of("`when`", value, complaints)?;
    let mut when = When {
        distribution: words("distribution", &mut table, complaints, &mut |word| {
            let lower =
                word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c));
            lower.then(|| word.to_owned()).ok_or("an ID of os-release: debian, ubuntu, amzn, rhel, fedora, …")
        }),
        release: words("release", &mut table, complaints, &mut |text| {
            let good = text.split(',').map(str::trim).all(|one| match comparison(one) {
                Some((_, than)) => than.split('.').all(|part| part.parse::<u64>().is_ok()),
                None => !one.is_empty() && !one.starts_with(['!', '~']) && glob(one).is_some(),
            });
            good.then(|| text.to_owned())
                .ok_or("a VERSION_ID of os-release: 12, 9.*, >=22.04, or >=20.04, <24")
        }),
        arch: words("arch", &mut table, complaints, &mut |word| match word {
            "x86_64" | "amd64" => Ok("x86_64".to_owned()),
            "arm64" | "aarch64" => Ok("arm64".to_owned()),
            _ => Err("x86_64 or arm64"),
        }),
        var: BTreeMap::new(),
    };
    let mut names = Vec::new();
    if let Some(mut vars) = table.table("var", complaints) {
        vars.what = "`var` of `when`".to_owned();
        for (name, _) in vars.all() {
            let key = name.value.as_str();
            let wanted = words(key, &mut vars, complaints, &mut |text| {
                glob(text).map(|_| text.to_owned()).ok_or("a value, or a glob")
            });
            when.var.insert(name.value.clone(), wanted);
            names.push(name.clone());
        }
    }
    let empty = table.all().is_empty();
    table.finish(complaints);
    if empty {
        complaints.push(
            Complaint::new("`when` says nothing", value.span.clone())
                .help("say `distribution`, `release`, `arch` or `var`, or leave it out"),
        );
    }
    Some(WhenSpec { when, names })
}

/// A string or a list of them; numbers and booleans stand for their text. A `!` before each is kept.
fn words(
    key: &str,
    table: &mut Table,
    complaints: &mut Complaints,
    good: &mut dyn FnMut(&str) -> Result<String, &'static str>,
) -> Vec<String> {
    let Some(value) = table.get(key) else { return Vec::new() };
    let items = match &value.value {
        RawValue::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let mut read = Vec::new();
    for item in items {
        let Some(text) = super::vars::plain(&item.value).map(|value| value.to_string()) else {
            let what = format!("`{}` of `when`", shown(key));
            complaints.push(wrong_type(
                &what,
                "a string or a list of strings",
                &item.value,
                item.span.clone(),
            ));
            continue;
        };
        let (not, word) = text.strip_prefix('!').map_or(("", text.as_str()), |rest| ("!", rest));
        match good(word) {
            Ok(word) => read.push(format!("{not}{word}")),
            Err(help) => {
                let message = format!("`{}` of `when` can't be `{}`", shown(key), shown(&text));
                complaints.push(Complaint::new(message, item.span.clone()).help(help));
            }
        }
    }
    read
}

/// Complains of variables in conditions that nobody declared.
pub(super) fn check_variables<'s>(
    steps: impl Iterator<Item = &'s StepSpec>,
    declared: &[String],
    complaints: &mut Complaints,
) {
    let known: Vec<&str> = declared.iter().map(String::as_str).collect();
    for name in steps.filter_map(|step| step.when.as_ref()).flat_map(|spec| &spec.names) {
        if known.contains(&name.value.as_str()) {
            continue;
        }
        let message = format!("there is no variable `{}`", shown(&name.value));
        let complaint = Complaint::new(message, name.span.clone()).label("not declared");
        complaints.push(match did_you_mean(&name.value, &known) {
            Some(near) => complaint.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => complaint.help("declare it in [vars]"),
            None => complaint.help(format!("[vars] declares {}", listed(&known))),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Source, parse};

    fn step(when: &str) -> Result<When, Vec<String>> {
        let text = format!(
            "vars.stage = 'prod'\n[image]\nname = 'web'\n[base]\nimage = 'x'\n[[step]]\nuse = 'script'\nrun = ['true']\nwhen = {when}\n"
        );
        let told = |complaints: Vec<Complaint>| {
            complaints
                .into_iter()
                .map(|one| format!("{} / {}", one.message, one.help.unwrap_or_default()))
                .collect()
        };
        parse(&Source { name: "web.toml".into(), text })
            .map(|recipe| recipe.steps[0].when.clone().unwrap().when)
            .map_err(told)
    }

    fn release(families: &[&str], version: Option<&str>) -> Release {
        Release {
            families: families.iter().map(ToString::to_string).collect(),
            version: version.map(str::to_owned),
        }
    }

    #[test]
    fn distributions_and_releases() {
        let ubuntu = release(&["ubuntu", "debian"], Some("24.04"));
        let debian = release(&["debian"], Some("12"));
        let amazon = release(&["amzn", "fedora"], Some("2023"));
        let sid = release(&["debian"], None);
        for (when, fits) in [
            ("{ distribution = 'debian' }", [true, true, false, true]),
            ("{ distribution = ['debian', '!ubuntu'] }", [false, true, false, true]),
            ("{ distribution = '!debian' }", [false, false, true, false]),
            ("{ distribution = ['ubuntu', 'amzn'] }", [true, false, true, false]),
            ("{ release = '>=12' }", [true, true, true, false]),
            ("{ release = '>=20.04, <2000' }", [true, false, false, false]),
            ("{ release = ['12', '24.*'] }", [true, true, false, false]),
            ("{ release = '!12' }", [true, false, true, false]),
            ("{ release = 12 }", [false, true, false, false]),
            ("{ release = '=12.0' }", [false, true, false, false]),
            ("{ release = '>12' }", [true, false, true, false]),
            ("{ release = '<=24.4' }", [true, true, false, false]),
            ("{ distribution = 'debian', release = '<13' }", [false, true, false, false]),
        ] {
            let when_read = step(when).unwrap();
            let told = [&ubuntu, &debian, &amazon, &sid].map(|release| when_read.judge_root(release).is_ok());
            assert_eq!(told, fits, "{when}");
            assert!(when_read.asks_root());
        }
        let why = step("{ distribution = ['rhel', 'fedora'] }").unwrap().judge_root(&debian).unwrap_err();
        assert_eq!(why, "the image is debian, and the step is for rhel, fedora");
    }

    #[test]
    fn architecture_and_variables_are_judged_before() {
        let variables = parse(&Source {
            name: "web.toml".into(),
            text: "vars = { stage = 'prod', count = 3 }\nimage.name = 'web'\nbase.image = 'x'".into(),
        })
        .unwrap()
        .variables;
        for (when, fits) in [
            ("{ arch = 'amd64' }", true),
            ("{ arch = ['arm64'] }", false),
            ("{ arch = '!arm64' }", true),
            ("{ var = { stage = 'prod' } }", true),
            ("{ var = { stage = ['dev', 'p*'] } }", true),
            ("{ var = { stage = '!prod' } }", false),
        ] {
            assert_eq!(step(when).unwrap().judge_plan("x86_64", &variables).is_ok(), fits, "{when}");
        }
        let shown = step("{ arch = 'arm64', release = ['>=12', '9.*'], var = { stage = 'prod' } }").unwrap();
        assert_eq!(shown.to_string(), "release >=12 or 9.* and arch arm64 and stage = prod");
    }

    #[test]
    fn what_is_wrong_with_a_condition_is_told() {
        for (when, told) in [
            ("{}", "says nothing"),
            ("'debian'", "must be a table"),
            ("{ distribtion = 'debian' }", "did you mean `distribution`?"),
            ("{ distribution = 'Debian 12' }", "can't be `Debian 12`"),
            ("{ release = '>=bookworm' }", "can't be `>=bookworm`"),
            ("{ release = '' }", "can't be ``"),
            ("{ release = [[]] }", "is a list"),
            ("{ arch = 'mips' }", "x86_64 or arm64"),
            ("{ var = 'stage=prod' }", "must be a table"),
            ("{ var = { staeg = 'prod' } }", "did you mean `stage`?"),
        ] {
            let wrong = step(when).unwrap_err();
            assert!(wrong.iter().any(|one| one.contains(told)), "{when}: {wrong:?}");
        }
    }
}
