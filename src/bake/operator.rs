//! Working with a bake: the shell, what is asked of the operator, and how a pause ends.

use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Kitchen, OnError};
use crate::plan::Plan;
use crate::provision::{Provisioning, StepDone};
use crate::provisioner::StepPlan;
use crate::report::failure::render;

/// The file in a bake's folder whose appearance ends a pause, where there is no terminal.
pub(super) const GO_ON: &str = "go-on";

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// What runs attended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job<'a> {
    Step(&'a StepPlan),
    Check(&'a StepPlan),
}

/// The end of a bake at the step that `--until` names: no failure, and no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Until(
    /// The step, as progress calls it.
    pub String,
);

impl std::fmt::Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ended after {}, as asked", self.0)
    }
}

impl std::error::Error for Until {}

/// What the operator answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    GoOn,
    Again,
    Shell,
    Keep,
    GiveUp,
}

const AFTER_FAILURE: &[(char, &str, Choice)] = &[
    ('r', "run it again", Choice::Again),
    ('s', "a shell in the root", Choice::Shell),
    ('k', "keep the disk and end", Choice::Keep),
    ('c', "clean up and end", Choice::GiveUp),
];

const AT_PAUSE: &[(char, &str, Choice)] = &[
    ('g', "go on", Choice::GoOn),
    ('r', "run the step again", Choice::Again),
    ('s', "a shell in the root", Choice::Shell),
    ('k', "keep the disk and end", Choice::Keep),
    ('c', "clean up and end", Choice::GiveUp),
];

impl Kitchen<'_> {
    /// Runs a step or a check. Where it fails and somebody attends, he says what is to happen: as often as he likes.
    pub(super) async fn attended(
        &self,
        provisioning: &Provisioning<'_>,
        job: Job<'_>,
        title: &str,
    ) -> Result<StepDone> {
        loop {
            let result = match job {
                Job::Step(step) => provisioning.run_step(step).await,
                Job::Check(check) => provisioning.run_check(check).await.map(|()| StepDone::default()),
            };
            let attends = matches!(self.on_error, OnError::Shell | OnError::Ask);
            let error = match result {
                Err(error) if attends && self.stop.signal().is_none() => error,
                result => return result,
            };
            self.reporter.warn(render(&error).trim_end());
            let choice = match (self.on_error, std::io::stdin().is_terminal()) {
                (OnError::Shell, true) => {
                    self.shell_in(provisioning, "leave it to say what is to happen").await;
                    self.ask(provisioning, AFTER_FAILURE).await?
                }
                (OnError::Shell, false) => {
                    self.shell_in(provisioning, "its end cleans up").await;
                    Choice::GiveUp
                }
                (_, true) => self.ask(provisioning, AFTER_FAILURE).await?,
                (_, false) => {
                    self.reporter.note("standard input is no terminal: nobody can be asked");
                    Choice::GiveUp
                }
            };
            match choice {
                Choice::Again => self.reporter.phase(job.phase(), &format!("{title}, again")),
                choice => {
                    self.keep_if(choice);
                    return Err(error);
                }
            }
        }
    }

    /// A pause after a step: with a terminal a shell in the root and then a question, without one until the file
    /// `go-on` appears in the bake's folder. Whether the step is to run again.
    pub(super) async fn pause(
        &self,
        provisioning: &Provisioning<'_>,
        plan: &Plan,
        title: &str,
    ) -> Result<bool> {
        self.reporter.phase("pause", &format!("after {title}"));
        if !std::io::stdin().is_terminal() {
            return self.await_go_on(plan).await.map(|()| false);
        }
        self.shell_in(provisioning, "leave it to say what is to happen").await;
        match self.ask(provisioning, AT_PAUSE).await? {
            Choice::GoOn | Choice::Shell => Ok(false),
            Choice::Again => {
                self.reporter.phase("provision", &format!("{title}, again"));
                Ok(true)
            }
            choice => {
                self.keep_if(choice);
                Err(Until(title.to_owned()).into())
            }
        }
    }

    /// A shell in the root. That there can be none is told, and ends nothing.
    pub(super) async fn shell_in(&self, provisioning: &Provisioning<'_>, about: &str) {
        self.reporter.note(&format!("a shell in the root, as asked: {about}"));
        provisioning.shell().await.unwrap_or_else(|error| self.reporter.warn(&format!("{error:#}")));
    }

    fn keep_if(&self, choice: Choice) {
        if choice == Choice::Keep {
            self.kept.store(true, Ordering::Relaxed);
        }
    }

    async fn ask(&self, provisioning: &Provisioning<'_>, offers: &[(char, &str, Choice)]) -> Result<Choice> {
        loop {
            let offered: Vec<_> = offers.iter().map(|(key, what, _)| format!("[{key}] {what}")).collect();
            self.reporter.ask(&format!("what now? {}", offered.join(", ")));
            let reading =
                async { tokio::task::spawn_blocking(read_line).await.context("reading the answer")? };
            let Some(answer) = self.stop.race(reading).await? else {
                self.reporter.note("standard input has ended: cleaning up");
                return Ok(Choice::GiveUp);
            };
            match choice_of(&answer, offers) {
                Some(Choice::Shell) => self.shell_in(provisioning, "leave it to say what is to happen").await,
                Some(choice) => return Ok(choice),
                None => self.reporter.note(&format!("{:?} is none of these letters", answer.trim())),
            }
        }
    }

    async fn await_go_on(&self, plan: &Plan) -> Result<()> {
        let folder = self.work_folder(plan);
        let file = folder.join(GO_ON);
        self.reporter.note(&format!(
            "its root is /proc/{}/root{}/root; `touch {}` goes on, SIGTERM ends the bake",
            std::process::id(),
            folder.display(),
            file.display()
        ));
        loop {
            match std::fs::remove_file(&file) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("removing {}", file.display())),
            }
            self.stop
                .race(async {
                    tokio::time::sleep(LOOK).await;
                    Ok(())
                })
                .await?;
        }
    }
}

impl Job<'_> {
    fn phase(&self) -> &'static str {
        match self {
            Self::Step(_) => "provision",
            Self::Check(_) => "check",
        }
    }
}

/// The offer whose letter the answer begins with. An empty answer is none: a key pressed too often decides nothing.
fn choice_of(answer: &str, offers: &[(char, &str, Choice)]) -> Option<Choice> {
    let letter = answer.trim().chars().next()?.to_ascii_lowercase();
    offers.iter().find(|(key, ..)| *key == letter).map(|(.., choice)| *choice)
}

/// A line of standard input, and no more: what follows is for the next shell. None at its end.
fn read_line() -> Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match nix::unistd::read(std::io::stdin(), &mut byte) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("reading from the terminal"),
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.extend(byte),
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_letter_or_a_word_that_begins_with_it() {
        for (answer, choice) in [
            ("r\n", Some(Choice::Again)),
            (" Retry ", Some(Choice::Again)),
            ("c", Some(Choice::GiveUp)),
            ("keep", Some(Choice::Keep)),
            ("", None),
            ("g", None),
            ("é", None),
        ] {
            assert_eq!(choice_of(answer, AFTER_FAILURE), choice, "{answer:?}");
        }
        assert_eq!(choice_of("g", AT_PAUSE), Some(Choice::GoOn));
    }
}
