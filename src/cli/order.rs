//! What was ordered: a recipe's file, or a base and packages in one line, with the flags laid over it.

use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::Context;
use super::bake::Args;
use super::settings::Settings;
use super::shape::{lay_tags, template};
use super::validate::{self, Read};
use crate::bake::{find_base, settle_name};
use crate::cloud::Cloud;
use crate::error::{Failure, Kind};
use crate::plan::{BakeId, Facts, NamePlan, Plan, make};
use crate::provisioner::StepPlan;
use crate::recipe::{self, BaseSelector, Bootstrap, Inputs, OneLine, Recipe, ScratchSpec, UefiData};

/// A recipe that is good, with its steps settled against their provisioners.
pub struct Order {
    read: Read,
    /// See [`Facts::again`].
    again: String,
}

impl Order {
    /// Reads what was ordered; everything wrong with it is told at once.
    pub fn read(args: &Args, settings: &Settings) -> Result<Self> {
        let downloads = settings.cache.join("downloads");
        let mut read = match (&args.base.base, args.what.as_slice()) {
            (_, [path]) if is_recipe(path) => {
                let path = Path::new(path);
                let mut read = args.flags.read(path, &downloads)?;
                let folder = path.parent().unwrap_or(Path::new(""));
                args.base.lay_over(&mut read.recipe, folder, &downloads)?;
                read
            }
            (Some(base), what) if !what.iter().any(|word| is_recipe(word)) => {
                args.flags.refuse()?;
                let (base, packages) = (args.base.selector(base)?, what.to_vec());
                let (size, name) = (args.size.clone(), args.name.clone());
                let line = recipe::one_line(&OneLine { base, packages, size, name });
                validate::check(line, Path::new("."), &downloads, &Inputs::default())?
            }
            _ => {
                let hint = "either `bakehouse bake RECIPE.toml` or `bakehouse bake --base BASE PACKAGE...`";
                let failure =
                    Failure::new(Kind::Usage, "neither one recipe nor a base with packages").hint(hint);
                return Err(failure.into());
            }
        };
        args.base.name_root(&mut read.recipe)?;
        args.base.settle_age(&mut read.recipe, settings)?;
        lay_over(&mut read.recipe, args)?;
        if args.keep_sync {
            read.settled.steps.iter_mut().for_each(StepPlan::keep_sync);
        }
        if args.no_publish {
            read.recipe.publish = None;
        }
        let again = args.what.first().map(|recipe| super::publish::again(Path::new(recipe), &read.recipe));
        Ok(Self { read, again: again.unwrap_or_default() })
    }

    /// Settles the plan: the base found, the name free.
    pub async fn plan(mut self, context: &Context, args: &Args, cloud: &dyn Cloud) -> Result<Plan> {
        super::sources::pin(context, &mut self.read.settled).await?;
        let digest = digest(&self.read)?;
        let Read { recipe, settled, .. } = self.read;
        context.reporter.phase("resolve", "base, place and name");
        let (place, base) = tokio::try_join!(cloud.place(), find_base(cloud, &recipe.base.value))?;
        let now = jiff::Timestamp::now();
        context.reporter.note(&format!("base {}", base.told(now)));
        base.notes.iter().for_each(|note| context.reporter.note(note));
        let facts = Facts {
            bake: bake_id()?,
            place,
            base,
            now,
            creator: args.creator.as_deref().unwrap_or(&context.settings.creator),
            digest,
            again: &self.again,
            env: &|name| std::env::var(name).ok(),
        };
        let mut plan = make(&recipe, settled, facts)?;
        settle_name(cloud, &mut plan).await?;
        if let Some(publish) = &plan.publish {
            let name = match &plan.image.name {
                NamePlan::Settled(name) => Some(name.as_str()),
                NamePlan::AfterInstall(_) => None,
            };
            cloud.check_publishing(&publish.targets, name).await?;
            if plan.place.cloud == "local" {
                context.reporter.note("the local store publishes nothing: [publish] is left out");
            }
        }
        plan.warnings.iter().for_each(|warning| context.reporter.warn(warning));
        plan.notes.iter().for_each(|note| context.reporter.note(note));
        Ok(plan)
    }
}

fn is_recipe(word: &str) -> bool {
    Path::new(word).extension().is_some_and(|ending| ending == "toml")
}

/// SHA-256 over the recipe's text and variables, each provisioner's digest and each local file that a step or hook names.
pub fn digest(read: &Read) -> Result<String> {
    let Read { source, settled, recipe } = read;
    let mut hash = Sha256::new();
    hash.update(&source.text);
    // Lengths first, so that no two lots of variables are one text.
    if let Some(word) = &recipe.environment {
        hash.update(format!("env {} {word}", word.len()));
    }
    for (name, variable) in &recipe.variables.0 {
        let value = variable.value.to_string();
        hash.update(format!("var {name} {} {value}", value.len()));
    }
    if let Some(UefiData::Data(data)) = &recipe.image.shape.uefi_data {
        hash.update(data);
    }
    if let BaseSelector::Scratch(ScratchSpec { bootstrap: Bootstrap::Script { path, .. }, .. }) =
        &recipe.base.value
    {
        hash_tree(&mut hash, path)?;
    }
    for step in settled.steps.iter().chain(&settled.checks) {
        hash.update(&step.digest);
        for staged in step.all_staged() {
            match (&staged.sha256, &staged.object) {
                (Some(known), _) => hash.update(known),
                (None, Some(object)) => hash.update(object.identity()),
                (None, None) => {
                    let from = std::fs::canonicalize(&staged.from)
                        .with_context(|| format!("following {}", staged.from.display()))?;
                    hash_tree(&mut hash, &from)?;
                }
            }
        }
    }
    for file in settled.hooks.iter().filter_map(|hook| hook.file.as_ref()) {
        let from = std::fs::canonicalize(file).with_context(|| format!("following {}", file.display()))?;
        hash_tree(&mut hash, &from)?;
    }
    Ok(hex(&hash.finalize()))
}

/// Flags over the recipe.
fn lay_over(recipe: &mut Recipe, args: &Args) -> Result<()> {
    let usage = |message: String| Failure::new(Kind::Usage, message);
    let variables = recipe.variables.clone();
    let filled = |flag: &str, text: &str| template(&format!("{flag} {text}"), text, &variables);
    let spanned = |value: &str| recipe::Spanned { value: value.to_owned(), span: 0..0 };
    if let Some(name) = &args.name {
        recipe.image.name = spanned(&filled("--name", name)?);
    }
    if let Some(description) = &args.description {
        recipe.image.description = Some(spanned(&filled("--description", description)?));
    }
    lay_tags("--tag", &args.tags, &variables, &mut recipe.image.tags)?;
    if let Some(size) = &args.size {
        recipe.disk.size = Some(
            recipe::units::parse_size(size)
                .map_err(|why| usage(format!("--size {size}: {why}")).hint("write --size 8GiB"))?,
        );
    }
    if args.partition.is_some() {
        recipe.disk.partition = args.partition;
    }
    args.shape.lay_over(recipe)
}

/// `bake-`, the milliseconds since 1970 in 11 hexadecimal digits, and 6 by chance.
fn bake_id() -> Result<BakeId> {
    use std::io::Read as _;
    let mut chance = [0_u8; 3];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut chance))
        .context("reading random bytes for the bake's id")?;
    let now = jiff::Timestamp::now().as_millisecond();
    Ok(BakeId(format!("bake-{now:011x}{}", hex(&chance))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds a file's or folder's names and contents.
fn hash_tree(hash: &mut Sha256, path: &Path) -> Result<()> {
    let reading =
        || Failure::new(Kind::Recipe, format!("reading {}", path.display())).hint("a step names it");
    let found = std::fs::symlink_metadata(path).with_context(reading)?;
    hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
    if found.is_symlink() {
        hash.update(std::fs::read_link(path).with_context(reading)?.as_os_str().as_encoded_bytes());
    } else if found.is_dir() {
        let mut names = std::fs::read_dir(path)
            .and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
            })
            .with_context(reading)?;
        names.sort();
        names.iter().try_for_each(|name| hash_tree(hash, name))?;
    } else if found.is_file() {
        let mut file = std::fs::File::open(path).with_context(reading)?;
        std::io::copy(&mut file, hash).with_context(reading)?;
    }
    Ok(())
}
