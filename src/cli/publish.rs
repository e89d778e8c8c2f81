//! `bakehouse publish`: makes true what a recipe's `[publish]` says of an image and is not yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::inputs::RecipeFlags;
use super::settings::Output;
use super::{Context, block_on, clouds, document, print, tell_failure};
use crate::bake::incomplete;
use crate::cloud::publish::{How, Publishable, Published};
use crate::error::{Failure, Kind};
use crate::plan::{PACKAGE_TAG, Publishing, package_of_tag, package_words};
use crate::program::quoted;
use crate::recipe::{Collision, Recipe};

/// What is published, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The image: its id or name, in its own Region
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The recipe whose [publish] says where and with whom
    #[arg(long, value_name = "RECIPE")]
    pub recipe: PathBuf,
    /// Its variables and environment
    #[command(flatten)]
    pub flags: RecipeFlags,
    /// Take the place of images that have the copies' name in their Regions, as on_collision = "replace" does
    #[arg(long)]
    pub replace: bool,
    /// The same, and delete their snapshots
    #[arg(long)]
    pub force: bool,
    /// Show what would be changed and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What publishing came to.
#[derive(Debug, Serialize)]
struct Told<'a> {
    image: &'a str,
    name: &'a str,
    published: &'a Published,
    api_calls: BTreeMap<String, u32>,
}

/// Runs it.
///
/// # Errors
/// [`Kind::Recipe`] where the recipe is not good or publishes nothing; those of the cloud. What is missing in the end
/// is told with the status of [`Kind::Publish`].
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let mut recipe = args.flags.read(&args.recipe, &context.settings.cache.join("downloads"))?.recipe;
    if args.replace || args.force {
        recipe.image.said_collision = Some(Collision::Replace { delete_snapshots: args.force });
    }
    let Some(spec) = &recipe.publish else {
        let message = format!("{} has no [publish]", args.recipe.display());
        return Err(Failure::new(Kind::Recipe, message).hint("say there where the image is to go").into());
    };
    block_on(context, async {
        super::signals::leave_when_hurried(context, None);
        let cloud = clouds::connect(context).await?;
        let Some(image) = context.stop.race(cloud.publishable(&args.image)).await? else {
            context.reporter.note("the local store publishes nothing: [publish] is left out");
            if context.output == Output::Json {
                print(&serde_json::json!({ "image": args.image, "published": null }).to_string())?;
            }
            return Ok(ExitCode::SUCCESS);
        };
        let publishing =
            Publishing::of(spec, recipe.image.collision(), &again(&args.recipe, &recipe), &|word| {
                value(word, &image)
            })?;
        context.stop.race(cloud.check_publishing(&publishing.targets, None)).await?;
        context.reporter.phase("publish", &format!("{} ({})", image.id, image.name));
        let heard = |text: &str| context.reporter.note(text);
        let how = How { act: !args.dry_run, journal: None, stop: &context.stop, heard: &heard };
        let published = cloud.publish(&image, &publishing, &how).await;
        let failure = match args.dry_run && published.regions.values().all(|there| there.failures.is_empty())
        {
            true => None,
            false => incomplete(
                &image.id,
                &published,
                &format!("bakehouse publish {} {}", image.id, publishing.again),
            ),
        };
        let told =
            Told { image: &image.id, name: &image.name, published: &published, api_calls: cloud.calls() };
        match context.output {
            Output::Json => print(&document(&told, failure.as_ref())?)?,
            Output::Text => rows(&published, args.dry_run).iter().try_for_each(|row| print(row))?,
        }
        let still = published.regions.values().all(|there| there.done.is_empty() && there.missing.is_empty());
        if still && failure.is_none() {
            context.reporter.note("nothing is to be changed: all of it is so already");
        }
        Ok(failure.map_or(ExitCode::SUCCESS, |error| tell_failure(&error, context.format)))
    })
}

/// The image in every Region; in a dry run what would be changed.
fn rows(published: &Published, dry_run: bool) -> Vec<String> {
    let mut rows = Vec::new();
    for (region, there) in &published.regions {
        let image = there.image.as_deref().unwrap_or("-");
        rows.push(format!("{region}  {image}"));
        if dry_run {
            rows.extend(there.missing.iter().map(|change| format!("{region}  would {change}")));
        }
    }
    rows
}

/// What stands behind `bakehouse publish IMAGE` for a recipe as it was read: with its environment, and with the
/// variables that were not the recipe's own to give.
pub fn again(path: &Path, recipe: &Recipe) -> String {
    let mut words = vec!["--recipe".to_owned(), quoted(&path.display().to_string())];
    if let Some(name) = &recipe.environment {
        words.extend(["--env".to_owned(), quoted(name)]);
    }
    for (name, variable) in &recipe.variables.0 {
        if !variable.from.starts_with('[') {
            words.extend(["--var".to_owned(), quoted(&format!("{name}={}", variable.value))]);
        }
    }
    // It may be a flag's word.
    if let (Collision::Replace { delete_snapshots }, Some(_)) = (recipe.image.collision(), &recipe.publish) {
        words.push(if delete_snapshots { "--force" } else { "--replace" }.to_owned());
    }
    words.join(" ")
}

/// What a word of a template stands for, as the image's tags and facts tell it.
fn value(word: &str, image: &Publishable) -> Option<String> {
    let tag = |key: &str| image.tags.get(key);
    match word {
        "arch" => Some(image.arch.as_str().to_owned()),
        "base" => tag("bakehouse:base-name").or(tag("bakehouse:base")).cloned(),
        "date" | "time" => {
            let baked = tag("creation_time").and_then(|time| time.parse::<Timestamp>().ok());
            let form = if word == "date" { "%Y-%m-%d" } else { "%Y%m%dT%H%M%SZ" };
            Some(baked.unwrap_or(image.created).strftime(form).to_string())
        }
        "package" | "version" | "release" => package_words(&package_of_tag(tag(PACKAGE_TAG)?)?).remove(word),
        other => std::env::var(other.strip_prefix("env:")?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Arch;

    #[test]
    fn words_are_told_by_the_image() {
        let tags = [
            ("bakehouse:base-name", "debian-12"),
            ("creation_time", "2026-11-23T05:10:39Z"),
            (PACKAGE_TAG, "web 1.4.2+dfsg 3"),
        ];
        let image = Publishable {
            id: "ami-1".into(),
            region: "eu-west-1".into(),
            name: "web".into(),
            description: String::new(),
            arch: Arch::Arm64,
            created: Timestamp::UNIX_EPOCH,
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        };
        for (word, wanted) in [
            ("arch", Some("arm64")),
            ("base", Some("debian-12")),
            ("date", Some("2026-11-23")),
            ("time", Some("20261123T051039Z")),
            ("package", Some("web")),
            ("version", Some("1.4.2-dfsg")),
            ("release", Some("3")),
            ("env:BAKEHOUSE_NO_SUCH", None),
            ("other", None),
        ] {
            assert_eq!(value(word, &image).as_deref(), wanted, "{word}");
        }
    }

    #[test]
    fn the_command_that_finishes_can_be_typed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.toml");
        let text = "[vars]\nstage = \"dev\"\nhome = \"/srv\"\n[image]\nname = \"web\"\n[base]\nimage = \"x\"\n\
                    [env.prod.image]\ndescription = \"of prod\"\n";
        std::fs::write(&path, text).unwrap();
        let flags = RecipeFlags {
            vars: vec!["stage=it's prod".into()],
            environment: Some("prod".into()),
            ..RecipeFlags::default()
        };
        let recipe = flags.read(&path, Path::new("/nowhere")).unwrap().recipe;
        assert_eq!(
            again(Path::new("images/web.toml"), &recipe),
            "--recipe images/web.toml --env prod --var 'stage=it'\\''s prod'"
        );
    }
}
