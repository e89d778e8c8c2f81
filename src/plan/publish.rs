//! `[publish]` in a plan: what is to be true of the image in every Region, and the parameters' names, settled now
//! or once the main package is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MainPackage, NamePlan};
use crate::error::{Failure, Kind};
use crate::recipe::template::{Template, Unfilled};
use crate::recipe::units::show_duration;
use crate::recipe::{Collision, CopySpec, Protection, PublishSpec, Share, Targets};
use crate::recipe::{allowed_in_parameter, judge_parameter};

/// The tag that says an image's main package: name, version and release with a space between.
pub const PACKAGE_TAG: &str = "bakehouse:package";

/// What publishing will be asked for once there is an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishPlan {
    /// What is to be true in every Region.
    pub targets: Targets,
    /// The names of parameters.
    pub parameters: Vec<NamePlan>,
    /// What stands behind `bakehouse publish IMAGE` in the command that finishes what this bake could not.
    pub again: String,
}

/// The same with nothing open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publishing {
    /// What is to be true in every Region.
    pub targets: Targets,
    /// The names of parameters.
    pub parameters: Vec<String>,
    /// As [`PublishPlan::again`].
    pub again: String,
}

impl PublishPlan {
    /// From a recipe; `fill` fills in a template and says whether it is one still.
    pub(super) fn of(
        spec: &PublishSpec,
        collision: Collision,
        again: &str,
        fill: impl Fn(&str, &str) -> Result<(String, bool), Failure>,
    ) -> Result<Self, Failure> {
        let parameters = spec.parameters.iter().map(|name| {
            let (name, open) = fill("a parameter's name", &name.value)?;
            if open {
                return Ok(NamePlan::AfterInstall(name));
            }
            judged(name).map(NamePlan::Settled)
        });
        let parameters = parameters.collect::<Result<_, Failure>>()?;
        let targets = Targets { collision, ..spec.targets.clone() };
        Ok(Self { targets, parameters, again: again.to_owned() })
    }

    /// Fills in what was open.
    ///
    /// # Errors
    /// [`Kind::Name`] where no step told of a package, or the name that comes out is none.
    pub fn settle(&self, main: Option<&MainPackage>) -> Result<Publishing, Failure> {
        let words = main.map(package_words).unwrap_or_default();
        let parameters = self.parameters.iter().map(|name| match name {
            NamePlan::Settled(name) => Ok(name.clone()),
            NamePlan::AfterInstall(template) => fill(template, &|word| words.get(word).cloned()),
        });
        let parameters = parameters.collect::<Result<_, _>>()?;
        Ok(Publishing { targets: self.targets.clone(), parameters, again: self.again.clone() })
    }

    /// What EC2 will not share, of an image that is encrypted: under `key` where the recipe says one, inherited from the
    /// base or under the account's own for EBS.
    ///
    /// # Errors
    /// [`Kind::Recipe`] where the image is for everybody.
    pub(super) fn judge_encrypted(
        &self,
        home: &str,
        asked: bool,
        key: Option<&str>,
    ) -> Result<Vec<String>, Failure> {
        let share = &self.targets.share;
        if share.everybody {
            let message =
                "[publish] is for everybody, and the image is encrypted: EC2 makes no such image public";
            return Err(Failure::new(Kind::Recipe, message)
                .hint("share it with accounts instead, or bake it on a base that is not encrypted, without `encrypted` and `kms_key`"));
        }
        if share.accounts.is_empty()
            && share.organizations.is_empty()
            && share.organizational_units.is_empty()
        {
            return Ok(Vec::new());
        }
        let warn = |what: &str, whose: &str, place: &str| {
            format!(
                "[publish] shares {what}, which is encrypted under {whose} key for EBS: where that is AWS's own (alias/aws/ebs), EC2 refuses to share it; `kms_key` in {place} names one of yours"
            )
        };
        let own = (asked && key.is_none()).then(|| warn("the image", "the account's", "[disk]"));
        let copies = self.targets.copies.iter().filter(|copy| copy.region != home && copy.kms_key.is_none());
        let copies = copies
            .map(|copy| warn(&format!("the copy in {}", copy.region), "that Region's", "[[publish.copy]]"));
        Ok(own.into_iter().chain(copies).collect())
    }

    /// In rows, for a dry run.
    pub(super) fn describe(&self, mut row: impl FnMut(&str, &str)) {
        for copy in &self.targets.copies {
            row("copy", &describe_copy(copy));
        }
        for line in describe_share(&self.targets.share) {
            row("share", &line);
        }
        if let Some(after) = self.targets.deprecate_after {
            row("deprecate", &format!("{} after it was made", show_duration(after)));
        }
        if let Some(protection) = self.targets.protection {
            row("protect", describe_protection(protection));
        }
        for name in &self.parameters {
            let (NamePlan::Settled(name) | NamePlan::AfterInstall(name)) = name;
            row("parameter", &format!("{name} in every Region, last of all"));
        }
    }
}

impl Publishing {
    /// For an image that stands already; `word` says what a placeholder stands for.
    ///
    /// # Errors
    /// [`Kind::Name`] where nothing fills a placeholder, or the name that comes out is none.
    pub fn of(
        spec: &PublishSpec,
        collision: Collision,
        again: &str,
        word: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let parameters = spec.parameters.iter().map(|name| fill(&name.value, word));
        let parameters = parameters.collect::<Result<_, _>>()?;
        let targets = Targets { collision, ..spec.targets.clone() };
        Ok(Self { targets, parameters, again: again.to_owned() })
    }
}

/// The words of a main package in a parameter's name: what none can hold is `-`, as in an image's name.
pub fn package_words(main: &MainPackage) -> BTreeMap<&'static str, String> {
    let fit = |text: &String| {
        text.chars().map(|c| if allowed_in_parameter(c) && c != '/' { c } else { '-' }).collect()
    };
    [("package", fit(&main.name)), ("version", fit(&main.version)), ("release", fit(&main.release))].into()
}

/// The value of [`PACKAGE_TAG`], and back.
pub fn package_tag(main: &MainPackage) -> String {
    [&main.name, &main.version, &main.release].map(String::as_str).join(" ").trim_end().to_owned()
}

/// What [`package_tag`] was made of.
pub fn package_of_tag(tag: &str) -> Option<MainPackage> {
    let mut parts = tag.split(' ').map(str::to_owned);
    let (name, version) = (parts.next()?, parts.next()?);
    Some(MainPackage { name, version, release: parts.next().unwrap_or_default() })
}

fn fill(template: &str, word: &dyn Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let wrong =
        |why: String| Failure::new(Kind::Name, format!("filling in the parameter's name {template}: {why}"));
    let parsed = Template::parse(template).map_err(|_| wrong("it is no template".to_owned()))?;
    let known = parsed.placeholders().filter_map(|name| Some((name.to_owned(), word(name)?))).collect();
    let name = parsed.fill(&known).map_err(|Unfilled(word)| {
        wrong(format!("nothing fills {{{word}}}")).hint(match word.strip_prefix("env:") {
            Some(name) => format!("export {name}=…"),
            None => {
                "{package}, {version} and {release} are of an image whose bake installed a package".to_owned()
            }
        })
    })?;
    judged(name)
}

fn judged(name: String) -> Result<String, Failure> {
    match judge_parameter(&name) {
        Ok(()) => Ok(name),
        Err(why) => Err(Failure::new(Kind::Name, why)
            .hint("mend [publish] parameters, or what the words in braces stand for")),
    }
}

/// A copy in words.
pub fn describe_copy(copy: &CopySpec) -> String {
    let mut text = format!("to {}", copy.region);
    match (&copy.kms_key, copy.encrypted) {
        (Some(key), _) => text.push_str(&format!(", encrypted with {key}")),
        (None, true) => text.push_str(", encrypted with that Region's default key"),
        (None, false) => {}
    }
    if let Some(minutes) = copy.within {
        text.push_str(&format!(", within {}", show_duration(u64::from(minutes) * 60)));
    }
    text
}

fn describe_share(share: &Share) -> Vec<String> {
    let mut lines = Vec::new();
    let what = if share.snapshots { "images and snapshots" } else { "images" };
    if share.everybody {
        lines.push(format!("{what} with EVERYBODY"));
    }
    if !share.accounts.is_empty() {
        lines.push(format!("{what} with accounts {}", share.accounts.join(", ")));
    }
    for (name, those) in
        [("organizations", &share.organizations), ("organizational units", &share.organizational_units)]
    {
        if !those.is_empty() {
            lines.push(format!("images with {name} {} (EC2 shares no snapshot so)", those.join(", ")));
        }
    }
    lines
}

fn describe_protection(protection: Protection) -> &'static str {
    match protection {
        Protection::WithoutCooldown => "from being deregistered",
        Protection::WithCooldown => {
            "from being deregistered, until 24 hours after the protection was taken away"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn main(version: &str, release: &str) -> MainPackage {
        MainPackage { name: "web".into(), version: version.into(), release: release.into() }
    }

    #[test]
    fn a_package_is_told_by_its_tag() {
        for package in [main("1.4.2", "3"), main("2.0~rc1+dfsg-1", "")] {
            assert_eq!(package_of_tag(&package_tag(&package)), Some(package));
        }
        assert_eq!(package_of_tag(""), None);
    }

    #[test]
    fn open_names_are_filled_with_what_a_name_can_hold() {
        let plan = PublishPlan {
            targets: Targets::default(),
            parameters: vec![
                NamePlan::Settled("/web/latest".into()),
                NamePlan::AfterInstall("/web/{version}".into()),
            ],
            again: String::new(),
        };
        let settled = plan.settle(Some(&main("2.0~rc1+dfsg/x", ""))).unwrap();
        assert_eq!(settled.parameters, ["/web/latest", "/web/2.0-rc1-dfsg-x"]);
        assert_eq!(plan.settle(None).unwrap_err().kind, Kind::Name);
    }
}
