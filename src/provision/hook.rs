//! One hook: a program of the builder, run on the builder.
//!
//! It is no sandbox: a hook has every right of the builder's root user. But it ends as a step does, with every
//! process that it started, and its mounts are its own: what it leaves mounted goes with it, so that nothing of it
//! holds the root when that is closed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::failure::{self, Ear};
use crate::error::{Failure, Kind};
use crate::provisioner::HookPlan;
use crate::report::Reporter;
use crate::sandbox::{Network, Outcome, Program, Run, Sandbox, Stream};
use crate::stop::Stop;

/// Runs a hook; `about` tells it of the bake, in its environment.
///
/// # Errors
/// [`Kind::Step`]: it failed, or took too long; [`Kind::Host`]: there is no such program. It is over then.
pub async fn run_hook(
    hook: &HookPlan,
    about: &BTreeMap<String, String>,
    stop: &Stop,
    reporter: &Reporter,
) -> Result<()> {
    let what = format!("hook {:?}", hook.name);
    let (program, arguments) = hook.command.split_first().ok_or_else(|| anyhow!("{what} has no program"))?;
    let found = match program.contains('/') {
        true => Path::new(program).to_owned(),
        false => crate::program::find(OsStr::new(program)).ok_or_else(|| {
            Failure::new(Kind::Host, format!("this builder has no {program}, which {what} runs"))
                .hint("install it, or name it by its path")
        })?,
    };
    let mut argv = vec![found.display().to_string()];
    argv.extend(arguments.iter().cloned());
    let mut run = Run::new(Program::Argv(argv));
    // A variable that is no text is left out: no other could pass it on.
    let ambient = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    run.env = ambient.collect();
    run.env.extend(about.clone());
    run.env.extend(hook.env.clone());
    run.cwd = Some(hook.folder.clone());
    run.network = Network::Builder;
    (run.outside, run.sees_root) = (true, true);
    run.timeout = Some(Duration::from_secs(hook.timeout));

    let mut ear = Ear::default();
    let mut line = |_: Stream, text: &str| {
        let text = reporter.masked(text);
        ear.hear(&text);
        reporter.line(&hook.name, &text);
    };
    let began = Instant::now();
    // There may be no root yet, and it is of no concern to such a run.
    let outcome = Sandbox::new(Path::new("/")).run(&run, stop, &mut line).await;
    let outcome = outcome.map_err(|error| failure::of_run(error, Kind::Step, &what))?;
    reporter.note(&format!("{what} took {:.2} s", began.elapsed().as_secs_f64()));
    if outcome == Outcome::Exited(0) {
        return Ok(());
    }
    let shown = hook.command.join(" ");
    Err(ear.failure(Kind::Step, &what, &shown, outcome, Some(hook.timeout)))
        .context(format!("at {}", hook.at.word()))
}
