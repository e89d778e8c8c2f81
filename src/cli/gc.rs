//! `bakehouse gc`: what dead bakes left, shown; with --yes, released.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::settings::Output;
use super::{Context, block_on, clouds, print, tell_failure};
use crate::broom::Swept;
use crate::cloud::Cloud;
use crate::cloud::local::Store;
use crate::error::{Failure, Interrupted, Kind};
use crate::provision::shrink;
use crate::recipe::units::{show_duration, show_size};
use crate::report::harmless;
use crate::sweep::{self, Finding, Scope, Verdict};

/// How far to look.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Look by tags too, for what no journal tells of: this builder's
    #[arg(long)]
    pub all: bool,
    /// With --all: any builder's, not this one's alone
    #[arg(long, requires = "all", requires = "older_than")]
    pub any_builder: bool,
    /// With --all: only what is older, as 6h [default: 1h]
    #[arg(long, value_name = "AGE", requires = "all")]
    pub older_than: Option<String>,
    /// How long what was kept on purpose stays (--on-error keep, hooks that wait for --resume), as 3d; 0s: it goes now
    #[arg(long, value_name = "AGE", default_value = "24h")]
    pub kept_older_than: String,
    /// How long what bakes share stays in its caches (packages, downloads), as 30d; 0s: all that no bake uses now goes
    #[arg(long, value_name = "AGE", default_value = "30d")]
    pub caches_older_than: String,
    /// How long the logs of bakes that ended stay, as 90d; what `images show` knows of an image stays
    #[arg(long, value_name = "AGE", default_value = "90d")]
    pub logs_older_than: String,
    /// Release; without it, what would be released is shown
    #[arg(long)]
    pub yes: bool,
}

/// What is younger may be of a bake whose journal is in another state folder.
const OLDER: Duration = Duration::from_secs(3600);

/// Runs it.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let older = match &args.older_than {
        None => OLDER,
        Some(text) => age("--older-than", text, "6h")?,
    };
    let caches = age("--caches-older-than", &args.caches_older_than, "30d")?;
    let logs = age("--logs-older-than", &args.logs_older_than, "90d")?;
    let scope = Scope { act: args.yes, kept_for: age("--kept-older-than", &args.kept_older_than, "24h")? };
    // First of all: a full disk is to get room even where the cloud does not answer.
    let (now, settings) = (SystemTime::now(), &context.settings);
    make_room(context, ["caches", "kept"], caches, args.yes, shrink(&settings.cache, caches, now, args.yes));
    let swept = sweep::logs(&settings.logs, &settings.state, logs, now, args.yes);
    make_room(context, ["logs", "written to"], logs, args.yes, swept);
    block_on(context, async {
        super::signals::leave_when_hurried(context, None);
        let cloud = clouds::connect(context).await?;
        let state = &context.settings.state;
        let work = PathBuf::from(super::WORK);
        let (stop, reporter) = (&context.stop, &context.reporter);
        // The local store is at hand whichever cloud is in use: what was baked into it here is swept too.
        let local = Store::open(&context.settings.store)?;
        let mut clouds = vec![cloud.as_ref()];
        clouds.extend((cloud.name() != local.name()).then_some(&local as &dyn Cloud));
        let is_root = nix::unistd::geteuid().is_root();
        // They would hold the volumes that are to be detached.
        if args.yes
            && is_root
            && let Err(error) = crate::disk::sweep()
        {
            reporter.warn(&format!("removing what dead bakes mapped: {error:#}"));
        }
        let mut findings = sweep::journals(state, &work, &clouds, scope, reporter, stop).await?;
        for cloud in clouds.into_iter().filter(|_| args.all) {
            if stop.signal().is_some() {
                break;
            }
            match sweep::tags(state, cloud, args.any_builder, older, args.yes, stop).await {
                // What was done by the journals is told all the same.
                Err(error) if error.is::<Interrupted>() => {}
                found => findings.extend(found?),
            }
        }
        if args.yes && nix::unistd::geteuid().is_root() {
            match crate::foundation::sweep(&work) {
                Ok(removed) => removed.iter().for_each(|path| {
                    reporter.note(&format!("removed {}, which a killed create-base left", path.display()));
                }),
                Err(error) => reporter.warn(&format!("removing what a killed create-base left: {error:#}")),
            }
        }
        // Empty cgroups of sandboxes whose helpers were killed: they hold nothing and cost nothing.
        if args.yes
            && is_root
            && let Err(error) = crate::sandbox::sweep()
        {
            context.reporter.warn(&format!("removing what dead sandboxes left: {error:#}"));
        }
        tell(context, &findings, args.yes)
    })
}

fn age(flag: &str, text: &str, such: &str) -> Result<Duration> {
    if text == "0s" {
        return Ok(Duration::ZERO);
    }
    let seconds = crate::recipe::units::parse_duration(text).map_err(|why| {
        Failure::new(Kind::Usage, format!("{flag} {text}: {why}")).hint(format!("write {flag} {such}"))
    })?;
    Ok(Duration::from_secs(seconds))
}

/// Says what went of files that only grow, or would; what is in the way there keeps nothing else from being swept.
fn make_room(
    context: &Context,
    [what, done]: [&str; 2],
    older: Duration,
    act: bool,
    swept: (Swept, Result<()>),
) {
    let (gone, error) = (swept.0, swept.1.err());
    if gone.files > 0 {
        let (files, verb) = match gone.files {
            1 => ("1 file".to_owned(), if act { "was removed" } else { "would go" }),
            files => (format!("{files} files"), if act { "were removed" } else { "would go" }),
        };
        let size = show_size(gone.bytes.next_multiple_of(1 << 20));
        let older = show_duration(older.as_secs());
        context.reporter.note(&format!("{what}: {files}, {size}, {done} longer than {older} ago {verb}"));
    }
    if let Some(error) = error {
        context.reporter.warn(&format!("making the {what} smaller: {error:#}"));
    }
}

fn tell(context: &Context, findings: &[Finding], acted: bool) -> Result<ExitCode> {
    match context.output {
        Output::Json => print(&serde_json::to_string_pretty(findings).context("encoding the findings")?)?,
        Output::Text if findings.is_empty() => context.reporter.note("nothing is left behind"),
        Output::Text => findings.iter().try_for_each(|finding| print(&row(finding)))?,
    }
    if !acted && findings.iter().any(|finding| finding.verdict == Verdict::Release) {
        context.reporter.note("nothing was touched: --yes releases what is shown");
    }
    let failed = findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Failed(_))).count();
    if failed > 0 {
        let hint = "the causes are shown above; run `bakehouse gc --yes` again once they are gone";
        let what = match failed {
            1 => "1 thing".to_owned(),
            failed => format!("{failed} things"),
        };
        let failure = Failure::new(Kind::Leftover, format!("{what} could not be released")).hint(hint);
        // Not as an error of the command: that would print a second document behind the findings.
        return Ok(tell_failure(&failure.into(), context.format));
    }
    // The findings are a document of their own: another one behind it would be none that can be read.
    let stopped = context.stop.check().err();
    Ok(stopped.map_or(ExitCode::SUCCESS, |error| tell_failure(&error, context.format)))
}

fn row(finding: &Finding) -> String {
    let verdict = match &finding.verdict {
        Verdict::Release => "release",
        Verdict::Keep => "keep",
        Verdict::Released => "released",
        Verdict::KeptUntil(_) => "kept",
        Verdict::Failed(_) => "failed",
    };
    let why = match &finding.verdict {
        Verdict::Failed(why) => format!(": {why}"),
        Verdict::KeptUntil(until) => format!(", until {until}"),
        _ => String::new(),
    };
    let id = finding.id.as_deref().unwrap_or("-");
    // Tags and answers are other people's text, which must not speak to the terminal.
    harmless(&format!("{verdict:<9} {}  {id}  {}{why}", finding.bake, finding.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        let finding = Finding {
            bake: "bake-\u{1b}[2J".to_owned(),
            what: "snapshot\n of\u{7} a bake".to_owned(),
            id: Some("snap-1".to_owned()),
            verdict: Verdict::Failed("denied\r".to_owned()),
        };
        assert!(!row(&finding).chars().any(char::is_control), "{:?}", row(&finding));
    }
}
