//! A look inside an image: a disk of it for this one purpose, its root mounted and entered, and all let go again.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::{Kitchen, wind_up};
use crate::disk::MountedRoot;
use crate::error::{Failure, Kind};
use crate::journal::Journal;
use crate::plan::Plan;
use crate::sandbox::{Network, Outcome, Program, Run, Sandbox, Stream};

/// What is done inside.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The program and its arguments; a shell where there is none.
    pub command: Vec<String>,
    /// The caller's terminal goes along.
    pub interactive: bool,
    /// What is inside can be changed: on this disk, which goes afterwards.
    pub writable: bool,
    /// The builder's network, but for the instance's metadata service; none without.
    pub network: bool,
}

/// Runs a program in the root of an image, whose base `plan` names. Nothing is captured, and nothing stays.
///
/// # Errors
/// Those of making, mounting and entering the disk; [`Kind::Leftover`] where it could not be let go.
pub async fn enter(
    kitchen: &Kitchen<'_>,
    plan: &Plan,
    look: &Look,
    line: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<Outcome> {
    let journal = kitchen.begin(plan)?;
    let outcome = look_inside(kitchen, plan, look, &journal, line).await;
    wind_up(kitchen, &journal, false).await;
    let ended = journal.end();
    let outcome = outcome?;
    ended.with_context(|| {
        let failure = Failure::new(Kind::Leftover, "not all that the look needed was released");
        failure.hint("run `bakehouse gc --yes`")
    })?;
    Ok(outcome)
}

async fn look_inside(
    kitchen: &Kitchen<'_>,
    plan: &Plan,
    look: &Look,
    journal: &Journal,
    line: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<Outcome> {
    let volume = kitchen.make_disk(plan, journal).await?;
    let disk = kitchen.open(&volume)?;
    let root = kitchen.mount(disk, plan)?;
    let outcome = run(kitchen, &root, look, line).await;
    let left = tokio::task::block_in_place(|| root.abandon());
    let outcome = outcome?;
    left.context("closing the root")?;
    kitchen.cloud.release_disk(&volume, journal).await?;
    Ok(outcome)
}

async fn run(
    kitchen: &Kitchen<'_>,
    root: &MountedRoot,
    look: &Look,
    line: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<Outcome> {
    let sandbox = Sandbox::new(root.path());
    let argv = match look.command.is_empty() {
        true => vec![crate::provision::shell_of(root.path()).to_owned()],
        false => look.command.clone(),
    };
    let how = if look.writable { "what is changed is gone afterwards" } else { "read-only" };
    kitchen.reporter.phase("enter", &format!("{} ({how})", argv.join(" ")));
    let mut run = Run::new(Program::Argv(argv));
    run.interactive = look.interactive;
    run.read_only = !look.writable;
    run.network = if look.network { Network::Host } else { Network::None };
    run.env = BTreeMap::from([("SYSTEMD_OFFLINE".to_owned(), "1".to_owned())]);
    sandbox.run(&run, kitchen.stop, line).await.context("looking into the image")
}
