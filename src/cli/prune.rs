//! `bakehouse prune`: images that are no longer needed, shown; with --yes, taken out of use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::inputs::RecipeFlags;
use super::pick::Pick;
use super::settings::Output;
use super::{Context, block_on, clouds, document, print, tell_failure, validate};
use crate::cloud::Cloud;
use crate::cloud::shelf::{Action, FAMILY_TAG, Held, Shelf, Stock};
use crate::error::{Failure, Kind, kind_of};
use crate::prune::{Finding, Inventory, Verdict, Wanted, act, settle};
use crate::recipe::family;
use crate::recipe::units::{parse_duration, show_size};
use crate::report::harmless;

/// Which images, and what is done to them.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The images that this recipe made: by the family of its name, or by its digest
    #[arg(long, value_name = "RECIPE")]
    pub recipe: Option<PathBuf>,
    /// With --recipe: its variables.
    #[command(flatten)]
    pub flags: RecipeFlags,
    /// Which images.
    #[command(flatten)]
    pub pick: Pick,
    /// How many stay of each family and architecture: the newest that can be launched
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Only images older than this, as 90d
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<String>,
    /// What is done
    #[arg(long, value_enum, default_value = "deregister")]
    pub action: Action,
    /// Another Region that copies are in; repeatable. A recipe's [publish] names them too
    #[arg(long = "copies-in", value_name = "REGION")]
    pub copies_in: Vec<String>,
    /// Do it; without it, what would be done is shown
    #[arg(long)]
    pub yes: bool,
}

/// Runs it.
///
/// # Errors
/// [`Kind::Usage`] for flags that say too little; those of the cloud; what could not be taken out of use.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let older = args.older_than.as_deref().map(age).transpose()?;
    if args.keep.is_none() && older.is_none() {
        return Err(Failure::new(Kind::Usage, "nothing says how many images stay")
            .hint("give --keep 3, --older-than 90d, or both; --keep 0 keeps none")
            .into());
    }
    let chosen = Chosen::of(args, &context.settings.cache)?;
    let meant = |image: &Stock| image.bake().is_some() && chosen.means(image);
    let wanted = Wanted {
        meant: &meant,
        keep: args.keep.unwrap_or_default(),
        older,
        action: args.action,
        now: Timestamp::now(),
    };
    block_on(context, async {
        super::signals::leave_when_hurried(context, None);
        let cloud = clouds::connect(context).await?;
        let stop = &context.stop;
        let shelves = stop.race(shelves(cloud.as_ref(), context, &chosen.regions(args))).await?;
        if !shelves.iter().all(|shelf| shelf.can(args.action)) {
            let what = args.action.as_str();
            context.reporter.note(&format!("the local store does not {what} images: nothing is done"));
            return tell(context, args, &[], Vec::new());
        }
        let mut inventory = stop.race(Inventory::stock(&shelves)).await?;
        stop.race(inventory.ask(&shelves, &meant)).await?;
        let mut findings = settle(&inventory, &wanted);
        let mut failures = Vec::new();
        if args.yes {
            let done = |finding: &Finding| context.reporter.detail(&row(finding, args.action).join("  "));
            failures = act(&mut findings, &shelves, args.action, stop, &done).await;
        }
        tell(context, args, &findings, failures)
    })
}

fn age(text: &str) -> Result<Duration> {
    let seconds = parse_duration(text).map_err(|why| {
        Failure::new(Kind::Usage, format!("--older-than {text}: {why}")).hint("write --older-than 90d")
    })?;
    Ok(Duration::from_secs(seconds))
}

/// The shelves of the Region in use and of others; the local store's alone, where it is that.
pub(super) async fn shelves<'a>(
    cloud: &'a dyn Cloud,
    context: &Context,
    others: &[String],
) -> Result<Vec<Box<dyn Shelf + 'a>>> {
    let mut shelves = vec![cloud.shelf(None).await?];
    if cloud.name() == "local" && !others.is_empty() {
        context.reporter.note("the local store is in no Region: --copies-in is passed over");
        return Ok(shelves);
    }
    for region in others {
        if shelves.iter().all(|shelf| shelf.region() != region) {
            shelves.push(cloud.shelf(Some(region)).await?);
        }
    }
    Ok(shelves)
}

/// Which images are meant, all read.
struct Chosen<'a> {
    recipe: Option<OfRecipe>,
    pick: &'a Pick,
}

/// What a recipe says of the images that it made.
struct OfRecipe {
    /// The name's template.
    template: String,
    /// The family's, where the name has one.
    family: Option<String>,
    digest: String,
    /// Where it publishes copies.
    regions: Vec<String>,
    /// What is the same in every bake: `env:NAME`.
    known: BTreeMap<String, String>,
}

impl<'a> Chosen<'a> {
    fn of(args: &'a Args, cache: &Path) -> Result<Self> {
        let pick = &args.pick;
        if args.recipe.is_none() && pick.is_empty() {
            return Err(Failure::new(Kind::Usage, "nothing says which images are meant")
                .hint("give --recipe RECIPE.toml, --name 'web-*' or --tag team=web; all that are given must fit")
                .into());
        }
        let read = |path: &PathBuf| OfRecipe::read(path, &args.flags, cache);
        let recipe = args.recipe.as_ref().map(read).transpose()?;
        if let Some(recipe) = &recipe
            && !family::is_telling(&recipe.template)
            && pick.is_empty()
        {
            let message = format!("the name {:?} may be that of any recipe's image", recipe.template);
            return Err(Failure::new(Kind::Usage, message)
                .hint("say which images with --name or --tag too, or put a word of its own into [image] name")
                .into());
        }
        Ok(Self { recipe, pick })
    }

    /// The other Regions to look at: those that the flags and the recipe's `[publish]` name.
    fn regions(&self, args: &Args) -> Vec<String> {
        let published = self.recipe.iter().flat_map(|recipe| &recipe.regions);
        args.copies_in.iter().chain(published).cloned().collect()
    }

    fn means(&self, image: &Stock) -> bool {
        self.pick.fits(image) && self.recipe.as_ref().is_none_or(|recipe| recipe.made(image))
    }
}

impl OfRecipe {
    fn read(path: &Path, flags: &RecipeFlags, cache: &Path) -> Result<Self> {
        let read = validate::read(path, &cache.join("downloads"), &flags.inputs()?)?;
        let template = read.recipe.image.name.value.clone();
        let words = family::env_words(&template);
        let known =
            words.into_iter().filter_map(|word| Some((format!("env:{word}"), std::env::var(&word).ok()?)));
        let copies = read.recipe.publish.iter().flat_map(|publish| &publish.targets.copies);
        Ok(Self {
            regions: copies.map(|copy| copy.region.clone()).collect(),
            family: family::of_template(&template),
            known: known.collect(),
            digest: format!("sha256:{}", super::order::digest(&read)?),
            template,
        })
    }

    /// By the digest; else by the family that the image's tag says; else, where it has none, by its name.
    fn made(&self, image: &Stock) -> bool {
        let tags = &image.image.tags;
        if tags.get("bakehouse:recipe") == Some(&self.digest) {
            return true;
        }
        let family = tags.get(FAMILY_TAG).filter(|family| !family.is_empty());
        match (family, &self.family) {
            (Some(tag), Some(family)) => family::may_have_named(family, tag, &self.known),
            _ => family::may_have_named(&self.template, &image.image.name, &self.known),
        }
    }
}

/// The result as one document.
#[derive(Serialize)]
struct Document<'a> {
    action: Action,
    acted: bool,
    images: &'a [Finding],
    /// Bytes of the snapshots that go or went, as large as their volumes.
    bytes: u64,
}

fn tell(
    context: &Context,
    args: &Args,
    findings: &[Finding],
    failures: Vec<anyhow::Error>,
) -> Result<ExitCode> {
    let counted = if args.yes { Verdict::Retired } else { Verdict::Retire };
    let going: Vec<_> = findings.iter().filter(|finding| finding.verdict == counted).collect();
    let bytes = match args.action {
        Action::Deregister => {
            going.iter().flat_map(|finding| finding.image.own_snapshots()).map(|one| one.size).sum()
        }
        _ => 0,
    };
    // What failed before a signal came stands among the findings.
    let is_left = args.yes && findings.iter().any(|finding| finding.verdict == Verdict::Retire);
    let stopped = context.stop.check().err().filter(|_| is_left);
    let failure = stopped.or_else(|| failed(&failures));
    match context.output {
        Output::Json => {
            let told = Document { action: args.action, acted: args.yes, images: findings, bytes };
            print(&document(&told, failure.as_ref())?)?;
        }
        Output::Text if findings.is_empty() => context.reporter.note("no image of a bake is meant"),
        Output::Text => {
            let rows: Vec<_> = findings.iter().map(|finding| row(finding, args.action)).collect();
            print(&super::images::columns(&rows))?;
        }
    }
    if !args.yes && !going.is_empty() {
        let size =
            if bytes == 0 { String::new() } else { format!(", {} of snapshots at most", show_size(bytes)) };
        context.reporter.note(&format!(
            "nothing was touched: --yes does it to {} image{}{size}",
            going.len(),
            if going.len() == 1 { "" } else { "s" }
        ));
    }
    Ok(failure.map_or(ExitCode::SUCCESS, |error| tell_failure(&error, context.format)))
}

/// All that failed, as one failure.
fn failed(failures: &[anyhow::Error]) -> Option<anyhow::Error> {
    let first = failures.first()?;
    // One kind for all, where they agree.
    let kind = if failures.iter().all(|failure| kind_of(failure) == kind_of(first)) {
        kind_of(first)
    } else {
        Kind::Cloud
    };
    let message = match failures {
        [one] => format!("{one:#}"),
        all => format!("{} images could not be taken out of use; the first: {first:#}", all.len()),
    };
    let hint = "the others are done; run it again once the cause is gone, and `bakehouse gc --all` for snapshots left alone";
    Some(Failure::new(kind, message).hint(hint).into())
}

fn row(finding: &Finding, action: Action) -> Vec<String> {
    let verdict = match finding.verdict {
        Verdict::Retire => action.as_str(),
        Verdict::Retired => match action {
            Action::Deprecate => "deprecated",
            Action::Disable => "disabled",
            Action::Deregister => "deregistered",
        },
        Verdict::Failed => "failed",
        Verdict::Keep => "keep",
        Verdict::Excluded => "in use",
    };
    let Stock { image, region, .. } = &finding.image;
    let age = super::images::age(&image.created, Timestamp::now());
    let why = match finding.why.as_slice() {
        [] if action == Action::Deregister => snapshots(&finding.image),
        [] => String::new(),
        why => why.join("; "),
    };
    // Names and tags are other people's text, which must not speak to the terminal.
    [verdict, image.id.as_str(), region.as_str(), image.name.as_str(), age.as_str(), why.as_str()]
        .map(harmless)
        .to_vec()
}

/// What becomes of the snapshots of an image that is deregistered.
fn snapshots(image: &Stock) -> String {
    let (ours, others): (Vec<_>, Vec<_>) = image.snapshots.iter().partition(|snapshot| snapshot.ours);
    let listed = |those: &[&Held]| those.iter().map(|one| one.id.as_str()).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !ours.is_empty() {
        parts.push(format!("with {}", listed(&ours)));
    }
    if !others.is_empty() {
        let (verb, object) = if others.len() == 1 { ("stays", "it") } else { ("stay", "them") };
        parts.push(format!("{} {verb}: its bake did not make {object}", listed(&others)));
    }
    parts.join("; ")
}
