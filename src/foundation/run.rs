//! What a foundation runs, on the builder and in the root: by the sandbox's road, in an environment made anew and
//! without a way to the metadata service.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;

use crate::error::{Failure, Interrupted, Kind};
use crate::program::quoted;
use crate::sandbox::{DEFAULT_PATH, Network, Outcome, Program, Run, Sandbox};
use crate::stop::Stop;

/// Hears what is going on, a line at a time.
pub(super) type Tell<'t> = dyn FnMut(&str) + Send + 't;

/// What of the builder's environment a program on the builder has: how to reach the network. In either case: curl
/// reads `http_proxy` alone, others the capitals.
const PROXIES: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/// Lines that a failure quotes at most.
const QUOTED: usize = 30;

/// A run of a program of the builder, on the builder: it sees the root, and all else that the builder's root user
/// sees, but none of the bake's variables.
pub(super) fn on_builder(argv: Vec<String>) -> Run {
    let mut run = Run::new(Program::Argv(argv));
    run.env.extend(std::env::vars().filter(|(name, _)| is_proxy(name)));
    let own = std::env::var("PATH").unwrap_or_default();
    run.env.insert(
        "PATH".to_owned(),
        if own.is_empty() { DEFAULT_PATH.to_owned() } else { own + ":" + DEFAULT_PATH },
    );
    run.env.insert("LC_ALL".to_owned(), "C.UTF-8".to_owned());
    (run.outside, run.sees_root) = (true, true);
    run
}

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| name == *proxy || name == proxy.to_ascii_uppercase())
}

/// A run in the root, which has no network: whatever is installed was fetched before.
pub(super) fn in_root(argv: Vec<String>) -> Run {
    let mut run = Run::new(Program::Argv(argv));
    for (name, value) in
        [("LC_ALL", "C.UTF-8"), ("DEBIAN_FRONTEND", "noninteractive"), ("SYSTEMD_OFFLINE", "1")]
    {
        run.env.insert(name.to_owned(), value.to_owned());
    }
    run.network = Network::None;
    run
}

/// Runs it to its end; `shown` is its line for people.
///
/// # Errors
/// An interruption; that it could not be run; its failure, with the end of what it said.
pub(super) fn perform(root: &Path, run: &Run, shown: &str, stop: &Stop, hear: &mut Tell<'_>) -> Result<()> {
    tracing::debug!("running {shown}");
    let runtime = Handle::try_current().context("finding the async runtime")?;
    let mut said = VecDeque::new();
    let mut listen = |_, text: &str| {
        hear(text);
        said.push_back(text.to_owned());
        if said.len() > QUOTED {
            said.pop_front();
        }
    };
    let outcome = runtime.block_on(Sandbox::new(root).run(run, stop, &mut listen));
    let outcome = outcome.map_err(|error| match error.downcast_ref::<Interrupted>() {
        Some(_) => error,
        None => error.context(format!("running {shown}")),
    })?;
    let ended = match outcome {
        Outcome::Exited(0) => return Ok(()),
        Outcome::Exited(status) => format!("`{shown}` ended with exit status: {status}"),
        Outcome::Signaled(signal) => format!("`{shown}` was ended by signal {signal}"),
        Outcome::TimedOut => {
            let limit = run.timeout.unwrap_or_default().as_secs();
            return Err(Failure::new(Kind::Step, format!("it took longer than {limit} s"))
                .hint("raise its timeout, or see in the log what it waited for"))
            .with_context(|| format!("running {shown}"));
        }
    };
    let text = said.make_contiguous().join("\n");
    Err(if text.trim().is_empty() { anyhow::anyhow!(ended) } else { anyhow::anyhow!("{ended}:\n{text}") })
}

/// An argument vector's line, for people.
pub(super) fn shown(argv: &[String]) -> String {
    argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_builders_environment_the_proxies_alone_are_taken_over() {
        for name in ["http_proxy", "HTTPS_PROXY", "no_proxy"] {
            assert!(is_proxy(name), "{name}");
        }
        for name in ["AWS_SECRET_ACCESS_KEY", "proxy", "HOME", "my_http_proxy"] {
            assert!(!is_proxy(name), "{name}");
        }
        assert!(in_root(vec!["true".to_owned()]).env.keys().all(|name| !is_proxy(name)));
    }
}
