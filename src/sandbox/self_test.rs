//! A builtin of the sandbox's own, which looks around inside: for `doctor`, and to show that builtins run.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Network, Program, Run, Sandbox};
use crate::stop::Stop;

/// Its name.
pub(super) const NAME: &str = "self-test";

/// Prints what it sees as a JSON document, or fails as it is asked to.
pub(super) fn look_around(argument: Value) -> Result<()> {
    if let Some(why) = argument.get("fail").and_then(Value::as_str) {
        return Err(anyhow::anyhow!("{why}")).context("looking around inside");
    }
    let processes = std::fs::read_dir("/proc")
        .context("listing /proc")?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .count();
    println!("{}", json!({ "process": std::process::id(), "processes": processes }));
    Ok(())
}

/// Runs nothing of value in an empty root with the given network: whether the sandbox can be built on this host.
///
/// # Errors
/// What is lacking, as any run would tell it.
pub async fn self_test(helper: &std::path::Path, network: Network) -> Result<()> {
    let root = tempfile::tempdir().context("making a folder for a trial of the sandbox")?;
    std::fs::create_dir(root.path().join("etc")).context("making a folder for a trial of the sandbox")?;
    let sandbox = Sandbox { root: root.path().to_owned(), helper: helper.to_owned() };
    let mut run = Run::new(Program::Builtin(NAME.to_owned(), Value::Null));
    run.network = network;
    let mut said = String::new();
    let outcome = sandbox.run(&run, &Stop::default(), &mut |_, line| said.push_str(line)).await?;
    let seen: Value =
        serde_json::from_str(&said).with_context(|| format!("reading what it saw: {outcome:?} {said}"))?;
    if seen != json!({ "process": 2, "processes": 2 }) {
        bail!("the trial of the sandbox saw more than itself: {seen}");
    }
    Ok(())
}
