//! `bakehouse bake`: a recipe, or a base and packages, to a registered image.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use clap::parser::ValueSource;

use super::base::BaseArgs;
use super::order::Order;
use super::settings::Output;
use super::{Context, block_on, clouds, print, private_mounts};
use crate::bake::{Kitchen, OnError, Until};
use crate::cloud::Cloud;
use crate::error::{Failure, Kind};
use crate::plan::{BakeId, Plan};
use crate::report::failure;
use crate::report::result::Baked;

/// What is baked, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A recipe (one file that ends in .toml), or with --base the packages: names, NAME=VERSION with globs,
    /// .deb or .rpm files, https URLs with #sha256=…
    #[arg(value_name = "RECIPE|PACKAGE")]
    pub what: Vec<String>,
    /// The image's name; {package}, {version}, {release}, {arch}, {base}, {date}, {time}, {var:NAME} and {env:NAME} are
    /// filled in
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The image's description
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A tag of volume, snapshot and image; repeatable
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
    /// Size of the root volume, as 8GiB
    #[arg(long, value_name = "SIZE", help_heading = "Shape of the image")]
    pub size: Option<String>,
    /// The root's partition number, where finding it by content is not wanted
    #[arg(long, value_name = "N", help_heading = "Shape of the image")]
    pub partition: Option<u32>,
    /// Show the plan and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What happens to what was made when the bake fails
    #[arg(long, value_enum, default_value = "cleanup", help_heading = "Attending the bake")]
    pub on_error: OnError,
    /// A shell in the root before it is closed
    #[arg(long, help_heading = "Attending the bake")]
    pub shell: bool,
    /// Pause after this step, by number or name: a shell, and then a question; without a terminal until a file
    /// appears that is named then. Repeatable
    #[arg(long, value_name = "STEP", help_heading = "Attending the bake")]
    pub pause_after: Vec<String>,
    /// End after this step, by number or name, without an image; all is undone (with --on-error keep the disk stays)
    #[arg(long, value_name = "STEP", help_heading = "Attending the bake")]
    pub until: Option<String>,
    /// Run the packages' fsync calls for real, as their steps ask (they are suppressed: one true sync ends the bake)
    #[arg(long)]
    pub keep_sync: bool,
    /// Leave out the recipe's [publish]; `bakehouse publish` does it later. Also with --resume
    #[arg(long)]
    pub no_publish: bool,
    /// Go on with a bake that died after its snapshot began: wait, register, publish, release the rest
    #[arg(long, value_name = "BAKE-ID")]
    pub resume: Option<String>,
    /// Who bakes, for the tag `creator` [default: the user]
    #[arg(long, value_name = "NAME")]
    pub creator: Option<String>,
    // A heading of flattened flags holds for all that follows, so these are the last.
    /// How the image is shaped
    #[command(flatten)]
    pub shape: super::shape::Shape,
    /// Which base.
    #[command(flatten)]
    pub base: BaseArgs,
    /// Variables and the environment.
    #[command(flatten)]
    pub flags: super::inputs::RecipeFlags,
}

/// Runs it.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    if let Some(id) = &args.resume {
        refuse_beside_resume(&super::definition(), std::env::args_os())?;
        let id = BakeId::parse(id)?;
        return block_on(context, async {
            let cloud = clouds::connect(context).await?;
            let kitchen = kitchen(context, args, cloud.as_ref());
            context.reporter.log_to(&log_path(context, &id))?;
            super::signals::leave_when_hurried(context, Some(&id));
            match crate::bake::resume(&kitchen, &id, !args.no_publish).await {
                Ok(baked) => tell(context, baked),
                Err(error) => tell_no_image(context, &id, error),
            }
        });
    }
    let order = Order::read(args, &context.settings)?;
    if !args.dry_run {
        private_mounts("baking an image")?;
    }
    block_on(context, async {
        let cloud = clouds::connect(context).await?;
        let mut plan = context.stop.race(order.plan(context, args, cloud.as_ref())).await?;
        plan.stop_at(&args.pause_after, args.until.as_deref(), args.shell)?;
        if args.dry_run {
            print(&describe(&plan, context.output)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        context.reporter.log_to(&log_path(context, &plan.bake))?;
        context.reporter.log(&plan.describe());
        super::signals::leave_when_hurried(context, Some(&plan.bake));
        let result = match super::sources::fetch(context, plan.steps.iter().chain(&plan.checks)).await {
            Ok(()) => crate::bake::bake(&kitchen(context, args, cloud.as_ref()), &plan).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(baked) => tell(context, baked),
            Err(error) => tell_no_image(context, &plan.bake, error),
        }
    })
}

/// The flags that say how a bake is gone on with. All others said what it is when it began, and would change nothing.
const BESIDE_RESUME: [&str; 3] = ["resume", "on_error", "no_publish"];

/// # Errors
/// [`Kind::Usage`] for anything else of `bake` on a command line with `--resume`.
fn refuse_beside_resume(
    command: &clap::Command,
    line: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<()> {
    let Some(known) = command.find_subcommand("bake") else { return Ok(()) };
    let matches = command.clone().try_get_matches_from(line).context("reading the command line again")?;
    let Some(given) = matches.subcommand_matches("bake") else { return Ok(()) };
    let others = known.get_arguments().filter(|argument| {
        let id = argument.get_id().as_str();
        !BESIDE_RESUME.contains(&id) && given.value_source(id) == Some(ValueSource::CommandLine)
    });
    let others: Vec<_> = others
        .map(|argument| match argument.get_long() {
            Some(long) => format!("--{long}"),
            None => "a recipe or packages".to_owned(),
        })
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let message = format!("beside --resume there can be no {}", others.join(", "));
    Err(Failure::new(Kind::Usage, message)
        .hint("leave it out: the bake goes on as it was begun; --no-publish and --on-error can be given anew")
        .into())
}

pub(super) fn kitchen<'a>(context: &'a Context, args: &Args, cloud: &'a dyn Cloud) -> Kitchen<'a> {
    Kitchen {
        cloud,
        reporter: &context.reporter,
        stop: &context.stop,
        state: &context.settings.state,
        cache: &context.settings.cache,
        work: PathBuf::from(super::WORK),
        device_wait: context.settings.deadlines.device(),
        on_error: args.on_error,
        kept: AtomicBool::new(false),
    }
}

fn log_path(context: &Context, bake: &BakeId) -> PathBuf {
    context.settings.logs.join(format!("{bake}.log"))
}

fn describe(plan: &Plan, output: Output) -> Result<String> {
    match output {
        Output::Text => Ok(plan.describe()),
        Output::Json => serde_json::to_string_pretty(plan).context("encoding the plan"),
    }
}

/// The end of a bake without an image: a failure, or the step that was to be its last.
fn tell_no_image(context: &Context, bake: &BakeId, error: anyhow::Error) -> Result<ExitCode> {
    let reporter = &context.reporter;
    let log = reporter.log_path().map(|path| path.display().to_string());
    let until = error.downcast_ref::<Until>().cloned();
    match &until {
        Some(until) => reporter.note(&until.to_string()),
        None => reporter.log(&failure::render(&error)),
    }
    if let Some(path) = &log {
        reporter.note(&format!("log: {path}"));
    }
    let Some(until) = until else { return Err(error) };
    if context.output == Output::Json {
        let document = serde_json::json!({ "bake": bake, "image": null, "until": until.0, "log": log });
        print(&serde_json::to_string_pretty(&document).context("encoding the result")?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(context: &Context, (baked, left): (Baked, Option<anyhow::Error>)) -> Result<ExitCode> {
    let reporter = &context.reporter;
    let phases: Vec<_> = reporter
        .phases()
        .iter()
        .map(|phase| format!("{} {:.2}", phase.name, phase.took.as_secs_f64()))
        .collect();
    reporter.note(&format!("seconds: {}", phases.join(", ")));
    reporter.detail(&format!("seconds of steps: {}", baked.took.summary()));
    reporter.note(&format!("packages: {}", baked.packages.summary()));
    for (what, path) in [("manifest", &baked.manifest), ("log", &baked.log)] {
        if let Some(path) = path {
            reporter.note(&format!("{what}: {path}"));
        }
    }
    reporter.note(&format!(
        "baked {} ({}) in {:.1} s",
        baked.image,
        baked.name,
        reporter.elapsed().as_secs_f64()
    ));
    match context.output {
        Output::Text => print(&baked.image)?,
        Output::Json => print(&super::document(&baked, left.as_ref())?)?,
    }
    Ok(left.map_or(ExitCode::SUCCESS, |error| super::tell_failure(&error, context.format)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    fn refused(more: &[&str]) -> Result<()> {
        let line =
            [&["bakehouse", "-v", "bake", "--resume", "bake-1", "--on-error", "keep", "--no-publish"], more];
        refuse_beside_resume(&super::super::definition(), line.concat().into_iter().map(Into::into))
    }

    #[test]
    fn every_other_flag_of_a_bake_is_refused_beside_resume() {
        refused(&[]).unwrap();
        refused(&["--output", "json", "--deadline", "visible=1s"]).unwrap();
        let definition = super::super::definition();
        let bake = definition.find_subcommand("bake").unwrap();
        let mut count = 0;
        for argument in bake.get_arguments().filter(|each| !BESIDE_RESUME.contains(&each.get_id().as_str())) {
            let flag = argument.get_long().map(|long| format!("--{long}"));
            let values = argument.get_possible_values();
            let value = values.first().map_or("200", |value| value.get_name());
            let takes = argument.get_action().takes_values();
            let joined = flag.as_ref().map(|flag| format!("{flag}={value}"));
            let words: Vec<_> = match &joined {
                Some(joined) if argument.is_require_equals_set() => vec![joined.as_str()],
                _ => flag.as_deref().into_iter().chain(takes.then_some(value)).collect(),
            };
            let error = refused(&words).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Usage, "{words:?}");
            let named = flag.as_deref().unwrap_or("a recipe or packages");
            assert!(error.to_string().ends_with(&format!("no {named}")), "{words:?}: {error}");
            count += 1;
        }
        assert!(count > 30, "{count}");
    }
}
