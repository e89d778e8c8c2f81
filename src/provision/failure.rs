//! How a failed step is told: what ran, how it ended, its last lines, and what to do.

use std::collections::VecDeque;
use std::path::Path;

use crate::error::{Failure, Kind, failure_of};
use crate::provisioner::{Hint, StepPlan};
use crate::sandbox::Outcome;

/// How many of the last lines are told.
const LINES: usize = 20;
/// With less room than this (bytes) a root is taken for full, what ext4 keeps for itself left out.
const LEAST_ROOM: u64 = 1 << 20;
/// The longest that a line is told, in characters.
const WIDTH: usize = 400;

/// What ENOSPC is called, by the C library and hence by nearly every program.
const FULL: &str = "No space left on device";
const FULL_HINT: &str = "the disk is full: set a larger [disk] size in the recipe";

/// The failure of `what` where its program could not be run, or where it is this binary's own work that failed.
pub(super) fn of_run(error: anyhow::Error, kind: Kind, what: &str) -> anyhow::Error {
    match failure_of(&error) {
        Some(failure) if failure.kind == Kind::Step => {
            let hint =
                failure.hint.clone().or_else(|| Some("the bake's log has the whole output".to_owned()));
            let told = Failure { kind, message: format!("{what} failed"), hint };
            of_disk(error.context(told))
        }
        _ => of_disk(error.context(format!("running {what}"))),
    }
}

/// The error, told as the disk's where that was full.
pub(super) fn of_disk(error: anyhow::Error) -> anyhow::Error {
    if format!("{error:#}").contains(FULL) {
        return error.context(Failure::new(Kind::Disk, "there is no room in the image").hint(FULL_HINT));
    }
    error
}

/// Listens to a step's output.
#[derive(Default)]
pub(super) struct Ear {
    last: VecDeque<String>,
    hints: Vec<Hint>,
    /// The first line in which each hint's text was found.
    heard: Vec<Option<String>>,
    disk_full: bool,
}

impl Ear {
    pub(super) fn new(step: &StepPlan) -> Self {
        Self {
            last: VecDeque::new(),
            hints: step.hints.clone(),
            heard: vec![None; step.hints.len()],
            disk_full: false,
        }
    }

    pub(super) fn hear(&mut self, line: &str) {
        self.disk_full |= line.contains(FULL);
        for (hint, heard) in self.hints.iter().zip(&mut self.heard) {
            if heard.is_none() && line.contains(&hint.find) {
                *heard = Some(line.trim().to_owned());
            }
        }
        if self.last.len() == LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(WIDTH).collect());
    }

    /// Looks whether the root is full: not every program says why it could not write.
    pub(super) fn look_for_room(&mut self, root: &Path) {
        let Ok(room) = nix::sys::statvfs::statvfs(root) else { return };
        let bytes = |blocks: u64| blocks.saturating_mul(room.fragment_size());
        // Of which nobody gets the last fiftieth, 4096 blocks at most (ext4_calculate_resv_clusters).
        let kept = bytes((room.blocks() / 50).min(4096));
        let full = bytes(room.blocks_free()) < kept.saturating_add(LEAST_ROOM);
        self.disk_full |= full && self.heard.iter().all(Option::is_none);
    }

    /// The failure of `what` ("step web", "check run") whose `program` ended so.
    pub(super) fn failure(
        &self,
        kind: Kind,
        what: &str,
        program: &str,
        outcome: Outcome,
        timeout: Option<u64>,
    ) -> Failure {
        let end = match outcome {
            Outcome::Exited(127) => "was not found, or a program that it runs (exit status 127)".to_owned(),
            Outcome::Exited(status) => format!("ended with exit status {status}"),
            Outcome::Signaled(signal) => {
                let name = nix::sys::signal::Signal::try_from(signal).map_or("", |signal| signal.as_str());
                format!("was ended by signal {signal} {name}").trim_end().to_owned()
            }
            Outcome::TimedOut => format!("was not done after {} s", timeout.unwrap_or_default()),
        };
        let mut message = format!("{what} failed: {program} {end}");
        if !self.last.is_empty() {
            message.push_str("; its last lines:");
            for line in &self.last {
                message.push_str("\n  | ");
                message.push_str(line);
            }
        }
        if self.disk_full {
            return Failure::new(Kind::Disk, message).hint(FULL_HINT);
        }
        let failure = Failure::new(kind, message);
        let heard = self.hints.iter().zip(&self.heard).find_map(|(hint, line)| Some((hint, line.as_ref()?)));
        match (heard, outcome) {
            (Some((hint, line)), _) => failure.hint(hint.say.replace("{line}", line)),
            (None, Outcome::TimedOut) => {
                failure.hint("give the step more `timeout`, or see what it waits for")
            }
            (None, _) => failure.hint("the bake's log has the whole output"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ear(hints: &[(&str, &str)]) -> Ear {
        let hints: Vec<Hint> =
            hints.iter().map(|(find, say)| Hint { find: (*find).into(), say: (*say).into() }).collect();
        Ear { last: VecDeque::new(), heard: vec![None; hints.len()], hints, disk_full: false }
    }

    #[test]
    fn last_lines_and_the_first_hint_are_told() {
        let mut ear =
            ear(&[("E: x", "never"), ("Unable to locate", "no such package ({line})"), ("Unable", "later")]);
        for number in 0..30 {
            ear.hear(&format!("line {number}"));
        }
        ear.hear("E: Unable to locate package nginz ");
        let failure = ear.failure(Kind::Step, "step web", "./run", Outcome::Exited(100), None);
        assert_eq!(failure.kind, Kind::Step);
        assert!(
            failure.message.starts_with("step web failed: ./run ended with exit status 100; its last lines:")
        );
        assert!(failure.message.contains("| line 29") && !failure.message.contains("| line 9\n"));
        assert_eq!(failure.hint.as_deref(), Some("no such package (E: Unable to locate package nginz)"));
    }

    #[test]
    fn a_full_disk_is_the_disks_failure() {
        let mut ear = ear(&[]);
        ear.hear("cp: error writing 'x': No space left on device");
        let failure = ear.failure(Kind::Step, "step a", "cp", Outcome::Exited(1), None);
        assert_eq!(failure.kind, Kind::Disk);
        let failure = super::Ear::failure(&ear, Kind::Check, "check b", "x", Outcome::Signaled(9), None);
        assert!(failure.message.contains("signal 9 SIGKILL"));
    }
}
