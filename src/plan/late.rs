//! What the package manager settles: name, description and tags that hold `{package}`, `{version}` or
//! `{release}`, once the main package is installed.

use std::collections::BTreeMap;

use super::{NamePlan, Plan};
use crate::error::{Failure, Kind};
use crate::recipe::template::{self, Template, Unfilled};

/// The main package of a bake, as its package manager names it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MainPackage {
    /// Its name.
    pub name: String,
    /// Its upstream version, epoch left out.
    pub version: String,
    /// Its release (`1.el9`, `2+deb12u1`); empty where it has none.
    pub release: String,
}

impl MainPackage {
    /// Aminator's `appversion`: name-version-release.
    pub fn appversion(&self) -> String {
        let parts = [&self.name, &self.version, &self.release];
        let given: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect();
        given.join("-")
    }

    /// The same with what no image's name can hold as `-`: Debian's versions often have `+` and `~`
    /// (`1.0+dfsg`, `2.0~rc1`). Tags and description keep them.
    fn for_a_name(&self) -> Self {
        let fit = |text: &String| {
            text.chars()
                .map(|character| if template::allowed_in_name(character) { character } else { '-' })
                .collect()
        };
        Self { name: fit(&self.name), version: fit(&self.version), release: fit(&self.release) }
    }
}

/// What an image is registered with, all settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// The image's name.
    pub name: String,
    /// The name that it should have had, where a number makes it another.
    pub unnumbered: Option<String>,
    /// Its description.
    pub description: String,
    /// All its tags.
    pub tags: BTreeMap<String, String>,
    /// The snapshot's description.
    pub snapshot_description: String,
    /// The snapshot's tags.
    pub snapshot_tags: BTreeMap<String, String>,
}

impl Late {
    /// Fills in what was open.
    pub fn of(plan: &Plan, main: Option<&MainPackage>) -> Result<Self, Failure> {
        let fill = |text: &str| settle(text, main);
        let name = match &plan.image.name {
            NamePlan::Settled(name) => name.clone(),
            NamePlan::AfterInstall(template) => settle(template, main.map(MainPackage::for_a_name).as_ref())?,
        };
        super::judge_name(&name)?;
        let tags = |planned: &BTreeMap<String, String>, open: &[String]| -> Result<_, Failure> {
            let mut tags = BTreeMap::new();
            for (key, value) in planned {
                let value = if open.contains(key) { fill(value)? } else { value.clone() };
                tags.insert(key.clone(), value);
            }
            if let Some(main) = main {
                tags.entry("appversion".to_owned()).or_insert_with(|| main.appversion());
                tags.insert(super::PACKAGE_TAG.to_owned(), super::package_tag(main));
            }
            Ok(tags)
        };
        let description = |planned: &String, open: bool| -> Result<_, Failure> {
            let text = if open { fill(planned)? } else { planned.clone() };
            Ok(super::make::cut(&text, super::make::DESCRIPTION_MOST))
        };
        Ok(Self {
            name,
            unnumbered: plan.image.unnumbered.clone(),
            description: description(&plan.image.description, plan.image.open_description)?,
            tags: tags(&plan.image.tags, &plan.image.open_tags)?,
            snapshot_description: description(&plan.snapshot.description, plan.snapshot.open_description)?,
            snapshot_tags: tags(&plan.snapshot.tags, &plan.snapshot.open_tags)?,
        })
    }

    /// The same under another name.
    pub fn called(mut self, name: String) -> Self {
        self.description = super::renamed(&self.description, &self.name, &name);
        self.snapshot_description = super::renamed(&self.snapshot_description, &self.name, &name);
        self.unnumbered = Some(std::mem::replace(&mut self.name, name));
        self
    }
}

fn settle(text: &str, main: Option<&MainPackage>) -> Result<String, Failure> {
    let unknown = || {
        Failure::new(Kind::Name, format!("filling in {text}: no step told which package it installed"))
            .hint("name a package in a step whose provisioner has a [package] query (apt, dnf, package), or leave {package}, {version} and {release} out")
    };
    let main = main.ok_or_else(unknown)?;
    let template = Template::parse(text).map_err(|_| unknown())?;
    let known = [("package", &main.name), ("version", &main.version), ("release", &main.release)];
    let known = known.into_iter().map(|(word, value)| (word.to_owned(), value.clone())).collect();
    template.fill(&known).map_err(|Unfilled(word)| {
        Failure::new(Kind::Name, format!("filling in {text}: nothing fills {{{word}}}"))
    })
}
