//! Recipe, steps and facts, to a plan.

use std::collections::BTreeMap;

use super::shape::{Said, Shape};
use super::tags::{TAG_VALUE_MOST, fill};
use super::{
    BakeId, BaseFacts, DiskPlan, ImagePlan, NamePlan, Place, Plan, PublishPlan, SnapshotPlan, judge_name,
};
use crate::error::{Failure, Kind};
use crate::provisioner::{Settled, StepPlan};
use crate::recipe::template::{self, OPEN, Template, Unfilled};
use crate::recipe::units::show_size;
use crate::recipe::{BaseSelector, Recipe, SecretSource, family};

/// The longest description that RegisterImage takes, in characters.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html> (255 bytes at most).
pub(super) const DESCRIPTION_MOST: usize = 255;

/// The tag that says which family an image is of, see [`family`].
pub const FAMILY_TAG: &str = "bakehouse:family";

/// All that a plan is made from, besides the recipe.
pub struct Facts<'a> {
    /// The bake's id.
    pub bake: BakeId,
    /// Who and where the builder is.
    pub place: Place,
    /// The chosen base.
    pub base: BaseFacts,
    /// The time of the bake.
    pub now: jiff::Timestamp,
    /// Who bakes.
    pub creator: &'a str,
    /// SHA-256 of the recipe and of the local files that it names, hexadecimal.
    pub digest: String,
    /// What stands behind `bakehouse publish IMAGE` in the command that finishes what the bake could not.
    pub again: &'a str,
    /// The builder's environment, for `{env:NAME}`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// Settles everything.
///
/// # Errors
/// [`Kind::Base`] when the builder cannot run the base's architecture, [`Kind::Name`] for a name that AWS
/// would refuse, [`Kind::Recipe`] for a disk smaller than its base or a tag that no resource takes.
pub fn make(recipe: &Recipe, settled: Settled, facts: Facts<'_>) -> Result<Plan, Failure> {
    let Facts { bake, place, base, now, creator, digest, again, env } = facts;
    if !place.runs.contains(&base.arch) {
        let message = format!(
            "the base is {}, this builder runs {}",
            base.arch.as_str(),
            place.runs.iter().map(|arch| arch.as_str()).collect::<Vec<_>>().join(" and ")
        );
        return Err(Failure::new(Kind::Base, message).hint(
            "bake on a builder of the base's architecture, or install qemu-user-static (binfmt_misc) on this one",
        ));
    }
    let skip = |mut step: StepPlan| {
        let judged = step.when.as_ref().map(|when| when.judge_plan(base.arch.as_str(), &recipe.variables));
        step.skipped = judged.and_then(Result::err);
        step
    };
    let (steps, checks): (Vec<_>, Vec<_>) =
        (settled.steps.into_iter().map(skip).collect(), settled.checks.into_iter().map(skip).collect());
    secrets_there(&place, steps.iter().chain(&checks))?;
    let asks_package = steps.iter().any(|step| step.skipped.is_none() && step.may_tell_package());
    let words = Words { base: &base, now, env };
    let settle = |what: &str, text: &str| -> Result<(String, bool), Failure> {
        let filled = words.fill(what, text)?;
        if filled.1 && !asks_package {
            let hint = "add a step that installs a package (apt, dnf, package), or leave {package}, {version} and {release} out";
            return Err(Failure::new(
                Kind::Recipe,
                format!("{what} asks for the main package, and no step installs one"),
            )
            .hint(hint));
        }
        Ok(filled)
    };

    let (name, open) = settle("the image's name", &recipe.image.name.value)?;
    let name = if open {
        NamePlan::AfterInstall(name)
    } else {
        judge_name(&name)?;
        NamePlan::Settled(name)
    };

    let own = recipe
        .image
        .description
        .as_ref()
        .map(|text| settle("the image's description", &text.value))
        .transpose()?;
    let (description, open_description) = provenance(own, &name, &base);

    let publish = match &recipe.publish {
        Some(spec) => Some(PublishPlan::of(spec, recipe.image.collision(), again, settle)?),
        None => None,
    };
    // What comes later: what the main package is, and what a copy is a copy of.
    let copies = publish.as_ref().is_some_and(|publish| !publish.targets.copies.is_empty());
    let later = 2 * usize::from(asks_package) + 2 * usize::from(copies);
    let own_description = recipe
        .image
        .snapshot_description
        .as_ref()
        .map(|text| settle("the snapshot's description", &text.value))
        .transpose()?;
    let snapshot_description = own_description.unwrap_or_else(|| (description.clone(), open_description));

    let own = own_tags(&bake, &place, &base, now, creator, &digest);
    let family = family::of_template(&recipe.image.name.value);
    let family = family.map(|family| settle("the image's family", &family)).transpose()?;
    let tags_of = |what: &str, separate| {
        let filled = fill(what, &recipe.image.tags, separate, &own, later + 1, settle)?;
        Ok::<_, Failure>(filled.of_family(family.clone()))
    };
    let image_tags = tags_of("image", &recipe.tags.image)?;
    let snapshot_tags = tags_of("snapshot", &recipe.tags.snapshot)?;
    let mut volume_tags = tags_of("volume", &recipe.tags.volume)?;
    // A volume is made before any package is installed.
    volume_tags.tags.retain(|key, _| !volume_tags.open.contains(key));

    let scratch = match &recipe.base.value {
        BaseSelector::Scratch(spec) => Some(spec.clone()),
        _ => None,
    };
    let size = recipe.disk.size.unwrap_or(base.size);
    if size < base.size {
        let message = format!("[disk] size is {}, the base's is {}", show_size(size), show_size(base.size));
        return Err(Failure::new(Kind::Recipe, message)
            .hint("a volume can't be smaller than its snapshot: raise size, or leave it out"));
    }
    super::base::refuse_on_given(recipe, &base)?;
    super::base::refuse_unbootable(recipe, &base)?;
    let said = Said { disk: &recipe.disk, size, devices: &recipe.devices, shape: &recipe.image.shape };
    let (shape, notes) = if place.cloud == "ec2" {
        let refused = recipe.disk.refused(size);
        if !refused.is_empty() {
            return Err(Failure::new(Kind::Recipe, format!("the bake's volume: {}", refused.join("; ")))
                .hint("mend [disk] or [disk.bake]"));
        }
        (base.shape().with(said, base.arch)?, None)
    } else {
        let kept = Shape {
            root_device_name: said.shape.root_device.clone().unwrap_or_else(|| base.root_device.clone()),
            boot_mode: said.shape.boot_mode.clone(),
            ..Shape::default()
        };
        (kept, super::shape::unknown_elsewhere(&said))
    };
    let notes: Vec<_> = notes.into_iter().chain(super::base::passed_over(recipe, &base)).collect();
    let disk =
        DiskPlan { size, spec: recipe.disk.clone(), scratch, tags: volume_tags.tags, token: bake.0.clone() };
    let snapshot = SnapshotPlan {
        description: snapshot_description.0,
        tags: snapshot_tags.tags,
        open_tags: snapshot_tags.open,
        open_description: snapshot_description.1,
    };
    let image = ImagePlan {
        name,
        description,
        tags: image_tags.tags,
        open_tags: image_tags.open,
        open_description,
        arch: base.arch,
        shape,
        collision: recipe.image.collision(),
        unnumbered: None,
        replaces: None,
    };
    let hygiene = recipe.hygiene.clone();
    let (base_age, mut warnings) = (base.age(now), super::base::warnings(recipe, &base, now));
    let encrypted = image.shape.root().and_then(|root| root.ebs.as_ref()?.encrypted) == Some(true);
    if let Some(publish) = publish.as_ref().filter(|_| encrypted) {
        let asked = recipe.disk.encrypted == Some(true);
        warnings.extend(publish.judge_encrypted(&place.region, asked, recipe.disk.kms_key.as_deref())?);
    }
    let told = facts_of(&bake, &place, &base, &image.name, now);
    let (environment, variables) = (recipe.environment.clone(), recipe.variables.clone());
    Ok(Plan {
        bake,
        place,
        base,
        base_age,
        warnings,
        disk,
        snapshot,
        image,
        notes,
        recipe_digest: digest,
        environment,
        variables,
        facts: told,
        steps,
        checks,
        hooks: settled.hooks,
        hygiene,
        publish,
        stops: super::Stops::default(),
    })
}

/// What templates of files are told of the bake; the image's distribution and release are added once it is mounted.
fn facts_of(
    bake: &BakeId,
    place: &Place,
    base: &BaseFacts,
    name: &NamePlan,
    now: jiff::Timestamp,
) -> BTreeMap<String, String> {
    let id = base.image.clone().unwrap_or_else(|| base.snapshot.clone());
    let mut facts = vec![
        ("arch", base.arch.as_str().to_owned()),
        ("base", base.name.clone().unwrap_or_else(|| id.clone())),
        ("base_id", id),
        ("bake", bake.0.clone()),
        ("cloud", place.cloud.clone()),
        ("region", place.region.clone()),
        ("date", now.strftime("%Y-%m-%d").to_string()),
        ("time", now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    ];
    if let NamePlan::Settled(name) = name {
        facts.push(("image", name.clone()));
    }
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Refuses secrets that this cloud does not keep.
fn secrets_there<'s>(place: &Place, steps: impl Iterator<Item = &'s StepPlan>) -> Result<(), Failure> {
    let missing = steps.filter(|step| step.skipped.is_none() && place.cloud == "local").find_map(|step| {
        let mut sources = step.secrets.values();
        sources.find(|source| matches!(source, SecretSource::Parameter(_))).map(|source| (step, source))
    });
    let Some((step, source)) = missing else { return Ok(()) };
    let message = format!("step {:?} takes a secret from {source}, which the local store has not", step.name);
    Err(Failure::new(Kind::Recipe, message)
        .hint("take it from `env` or `file` there: an [env.NAME] of the recipe can say so"))
}

struct Words<'a> {
    base: &'a BaseFacts,
    now: jiff::Timestamp,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Words<'_> {
    /// The text with all but the open words filled in, and whether any is left.
    fn fill(&self, what: &str, text: &str) -> Result<(String, bool), Failure> {
        let wrong =
            |message: String| Failure::new(Kind::Recipe, format!("filling in {what}, {text:?}: {message}"));
        let template = Template::parse(text).map_err(|errors| {
            wrong(errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; "))
        })?;
        let known = template.placeholders().filter_map(|word| Some((word.to_owned(), self.value(word)?)));
        let known: BTreeMap<_, _> = known.collect();
        let open = template.is_open();
        let filled = if open {
            template.fill_but(&known, &OPEN).map(|template| template.to_string())
        } else {
            template.fill(&known)
        };
        let filled = filled.map_err(|Unfilled(word)| match word.strip_prefix("env:") {
            Some(name) => {
                wrong(format!("the environment variable {name} is not set")).hint(format!("export {name}=…"))
            }
            None => wrong(format!("nothing fills {{{word}}}")),
        })?;
        Ok((filled, open))
    }

    fn value(&self, word: &str) -> Option<String> {
        Some(match word {
            "arch" => self.base.arch.as_str().to_owned(),
            "base" => self.base.name.clone().unwrap_or_else(|| self.base.id().to_owned()),
            "date" => self.now.strftime("%Y-%m-%d").to_string(),
            "time" => self.now.strftime("%Y%m%dT%H%M%SZ").to_string(),
            other => return other.strip_prefix("env:").and_then(self.env),
        })
    }
}

/// The user's words, then Aminator's: `name=…, arch=…, ancestor_name=…, ancestor_id=…, ancestor_version=…`;
/// and whether it is a template still.
fn provenance(own: Option<(String, bool)>, name: &NamePlan, base: &BaseFacts) -> (String, bool) {
    let name = match name {
        NamePlan::Settled(name) => (name.clone(), false),
        NamePlan::AfterInstall(name) => (name.clone(), true),
    };
    let open = name.1 || own.as_ref().is_some_and(|own| own.1);
    // In a template, text that is settled has its braces doubled.
    let part = |(text, is_template): (String, bool)| match (open, is_template) {
        (true, false) => template::escape(&text),
        _ => text,
    };
    let settled = |text: &str| part((text.to_owned(), false));
    let mut facts = format!("name={}, arch={}", part(name), base.arch.as_str());
    let ancestor =
        [("name", base.name.as_deref()), ("id", Some(base.id())), ("version", base.version.as_deref())];
    for (key, value) in ancestor {
        if let Some(value) = value {
            facts.push_str(&format!(", ancestor_{key}={}", settled(value)));
        }
    }
    let all = match own {
        Some(own) => format!("{} ({facts})", part(own)),
        None => facts,
    };
    (if open { all } else { cut(&all, DESCRIPTION_MOST) }, open)
}

/// The text, cut to at most so many bytes at a character's end.
pub(super) fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

fn own_tags(
    bake: &BakeId,
    place: &Place,
    base: &BaseFacts,
    now: jiff::Timestamp,
    creator: &str,
    digest: &str,
) -> Vec<(String, String)> {
    let id = base.id().to_owned();
    let mut tags = vec![
        ("bakehouse:bake", bake.0.clone()),
        ("bakehouse:recipe", format!("sha256:{digest}")),
        ("bakehouse:builder", place.builder.clone()),
        ("bakehouse:version", env!("CARGO_PKG_VERSION").to_owned()),
        ("bakehouse:base", id),
        ("creator", creator.to_owned()),
        ("creation_time", now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    ];
    if let Some(name) = &base.name {
        tags.push(("bakehouse:base-name", name.clone()));
    }
    if let Some(version) = base.version.as_ref().or(base.name.as_ref()) {
        tags.push(("base_ami_version", version.clone()));
    }
    tags.into_iter().map(|(key, value)| (key.to_owned(), cut(&value, TAG_VALUE_MOST))).collect()
}
