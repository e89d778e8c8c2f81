//! Signals: the first asks to stop, a second one leaves the rest to the journal.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use crate::error::Interrupted;
use crate::journal::{self, Journal};
use crate::plan::BakeId;
use crate::report::Reporter;
use crate::stop::Stop;

/// How long a command may take to end by itself after a second signal.
const GRACE: Duration = Duration::from_secs(2);

/// Raises [`Stop`] at SIGINT, SIGTERM and SIGHUP. `ends` says how the command ends then.
pub(super) fn listen(stop: &Stop, reporter: &Reporter, ends: &'static str) -> Result<()> {
    reporter.stop_when_unheard(stop);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        // As nohup has it: what it ignores stays ignored.
        if kind == SignalKind::hangup() && is_ignored(libc::SIGHUP) {
            continue;
        }
        let mut signals = signal(kind).context("listening for signals")?;
        let (stop, reporter) = (stop.clone(), reporter.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // First, for a warning that nobody hears asks to stop as well.
                let is_first = stop.signal().is_none();
                stop.raise(kind.as_raw_value());
                if is_first {
                    reporter.warn(&format!("stopping: {ends}"));
                }
            }
        });
    }
    Ok(())
}

fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status, signal)
}

/// By the mask `SigIgn` of proc_pid_status(5), whose lowest bit is signal 1.
fn ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask.checked_shr(u32::try_from(signal - 1).unwrap_or(u32::MAX)).is_some_and(|bits| bits & 1 == 1)
}

/// At a second signal: the command has a moment to end by itself, then this process ends whatever it waits for (a
/// call without an answer, a disk that syncs), and says what the journal of its bake still holds, if it bakes.
/// Mounts, loop devices and the sandbox die with it; `bakehouse gc` does the rest.
pub(super) fn leave_when_hurried(context: &Context, bake: Option<&BakeId>) {
    let (stop, reporter) = (context.stop.clone(), context.reporter.clone());
    let path = bake.map(|bake| Journal::path_of(&context.settings.state, bake));
    tokio::spawn(async move {
        let Interrupted(signal) = stop.hurried().await;
        tokio::time::sleep(GRACE).await;
        reporter.warn("stopped waiting, as a second signal asked");
        if let Some(path) = path {
            tell_owned(&path, &reporter);
        }
        std::process::exit(128 + signal);
    });
}

fn tell_owned(path: &Path, reporter: &Reporter) {
    let record = std::fs::read_to_string(path).ok().and_then(|text| journal::read(&text).ok());
    for entry in record.iter().flat_map(journal::Record::owned) {
        reporter.warn(&format!("still there: {entry}"));
    }
    if record.is_some() {
        reporter.warn(&format!("`bakehouse gc --yes` releases what {} owns", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert!(ignored(status, libc::SIGHUP) && ignored(status, libc::SIGPIPE));
        assert!(!ignored(status, libc::SIGTERM) && !ignored("", libc::SIGHUP));
    }
}
