//! The name that an image gets where another has the one that it should have.

use anyhow::Result;

use super::Kitchen;
use crate::cloud::{Cloud, ImageSpec};
use crate::error::{Kind, kind_of};
use crate::journal::{Journal, Standing, Thing};
use crate::plan::{BaseFacts, Late, NamePlan, Plan, name_taken, protected, renamed, suffixed};
use crate::recipe::{Collision, CopySpec};

/// The most numbers that are tried behind a name.
const MOST: u32 = 1000;

/// What an image is to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Its name.
    pub name: String,
    /// The image that has the name, and whose place it takes.
    pub replaces: Option<String>,
}

/// The name for an image that should have this one. A number is free in all Regions that a copy goes to as well:
/// copies have the name too.
///
/// # Errors
/// [`crate::error::Kind::Name`] where it is taken and nothing is said of that, or the image that has it cannot go.
pub async fn called(
    cloud: &dyn Cloud,
    collision: Collision,
    name: &str,
    copies: &[CopySpec],
) -> Result<Called> {
    let free = |name: String| Called { name, replaces: None };
    let copies = if collision == Collision::Suffix { copies } else { &[] };
    let taken = async |name: &str| match cloud.image_named(name).await? {
        Some(taken) => Ok::<_, anyhow::Error>(Some(taken)),
        None => cloud.named_elsewhere(copies, name).await,
    };
    let Some(taken_by) = taken(name).await? else { return Ok(free(name.to_owned())) };
    match collision {
        Collision::Fail => Err(name_taken(name, &taken_by).into()),
        Collision::Replace { .. } => {
            let old = cloud.shelf(None).await?.image(&taken_by).await?;
            match old.and_then(|old| old.protection) {
                Some(how) => Err(protected(name, &taken_by, None, &how).into()),
                None => Ok(Called { name: name.to_owned(), replaces: Some(taken_by) }),
            }
        }
        Collision::Suffix => {
            for number in 2..=MOST {
                let numbered = suffixed(name, number)?;
                if taken(&numbered).await?.is_none() {
                    return Ok(free(numbered));
                }
            }
            Err(name_taken(name, &taken_by).into())
        }
    }
}

/// Settles a plan's name where it is known already, and notes what becomes of an image that has it.
///
/// # Errors
/// As [`called`].
pub async fn settle_name(cloud: &dyn Cloud, plan: &mut Plan) -> Result<()> {
    let NamePlan::Settled(name) = &plan.image.name else { return Ok(()) };
    let name = name.clone();
    if let (Some(publish), Collision::Suffix) = (&plan.publish, plan.image.collision) {
        // Whether they are Regions at all is told first.
        cloud.check_publishing(&publish.targets, None).await?;
    }
    let copies = plan.publish.as_ref().map(|publish| publish.targets.copies.as_slice()).unwrap_or_default();
    let called = called(cloud, plan.image.collision, &name, copies).await?;
    if called.name != name {
        plan.notes.push(format!("the name {name} is taken: the image is called {}", called.name));
        plan.rename(&name, called.name);
    }
    if let (Some(old), Collision::Replace { delete_snapshots }) = (&called.replaces, plan.image.collision) {
        let snapshots = if delete_snapshots { "deleted with it" } else { "left" };
        plan.warnings.push(format!(
            "{old} has the name {name}: it is deregistered once the new image is complete, its snapshots {snapshots}; what names it by its id must be told the new one's"
        ));
    }
    plan.image.replaces = called.replaces;
    Ok(())
}

/// Gives an image that is to be registered another name.
pub(super) fn rename(spec: &mut ImageSpec, name: String) {
    spec.description = renamed(&spec.description, &spec.name, &name);
    spec.name = name;
}

/// The image whose place the bake's took, by its journal.
pub(super) fn replaced(journal: &Journal) -> Option<String> {
    journal.entries().into_iter().rev().find_map(|entry| match entry.thing {
        Thing::Replaced { image, .. } if entry.standing != Standing::Gone => Some(image),
        _ => None,
    })
}

impl Kitchen<'_> {
    /// Settles a name that the package manager had to say first.
    pub(super) async fn called_late(&self, late: Late, plan: &Plan) -> Result<Late> {
        let copies =
            plan.publish.as_ref().map(|publish| publish.targets.copies.as_slice()).unwrap_or_default();
        let called = called(self.cloud, plan.image.collision, &late.name, copies).await?;
        if let Some(old) = called.replaces {
            self.reporter.warn(&format!("{old} has the name {}: the new image takes its place", late.name));
        }
        if called.name == late.name {
            return Ok(late);
        }
        self.reporter.note(&format!("the name {} is taken: the image is called {}", late.name, called.name));
        Ok(late.called(called.name))
    }

    /// Registers the image; where its name was taken meanwhile and a number is to make it another, by that.
    pub(super) async fn register_as(
        &self,
        snapshot: &str,
        spec: &mut ImageSpec,
        base: &BaseFacts,
        journal: &Journal,
    ) -> Result<String> {
        let plain = spec.unnumbered.clone().unwrap_or_else(|| spec.name.clone());
        for _ in 0..MOST {
            let error = match self.cloud.register(snapshot, spec, base, journal, self.stop).await {
                Ok(image) => return Ok(image),
                Err(error) => error,
            };
            if spec.collision != Collision::Suffix || kind_of(&error) != Kind::Name {
                return Err(error);
            }
            // Not looked for elsewhere: this is about who was faster here.
            let called = called(self.cloud, spec.collision, &plain, &[]).await?;
            if called.name == spec.name {
                return Err(error);
            }
            self.reporter.note(&format!("the name {} was taken meanwhile: now {}", spec.name, called.name));
            rename(spec, called.name);
        }
        Err(name_taken(&plain, "others").into())
    }
}
