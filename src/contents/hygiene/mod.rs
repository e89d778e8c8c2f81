//! What the bake itself made that instances must not share goes before the root is closed; what came with the
//! base stays, byte for byte. Then an audit of what changed.
//!
//! [`record`] notes, when the root is first mounted, what there is at the places that matter (names, lengths,
//! digests of ends). [`clean`] compares with it, at the end. Both work inside the sandbox, where no link of the
//! image leads out, and when no process of the image lives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{LONGEST, heard, rpm_files_since};
use crate::error::{Failure, Kind};
use crate::recipe::{Audit, HygieneSpec, Part};
use crate::report::Reporter;
use crate::sandbox::{Builtin, Network, Program, Run, Sandbox};
use crate::stop::Stop;

mod accounts;
mod audit;
mod before;
mod brought;
mod labels;
mod places;
mod rights;
mod secrets;
mod small;
mod sweep;
mod tree;
mod walk;

pub use audit::{Finding, Found};

/// This room's functions that run inside: what [`crate::sandbox::entry`] must be told of.
pub const BUILTINS: &[Builtin] = &[(BEFORE, before::run), (AFTER, sweep::run)];

const BEFORE: &str = "hygiene-before";
const AFTER: &str = "hygiene-after";

/// Findings that progress shows; the log and the result document have all.
const SHOWN: usize = 20;

/// What there was at the start of the bake.
#[derive(Debug)]
pub struct Record {
    before: before::Before,
    /// Wall clock, for comparing with inodes' change times; and the clock that nobody sets.
    began: (SystemTime, Instant),
}

/// What hygiene did and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What each part did, those that are off left out.
    pub parts: Vec<Done>,
    /// What the audit found.
    pub findings: Vec<Finding>,
}

/// What a part did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The part.
    pub part: Part,
    /// Files, and folders with all in them, that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub removed: Vec<String>,
    /// Files that have again what the base had in them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub restored: Vec<String>,
    /// New files that were emptied and stay, because they are not root's and what writes them may not be able
    /// to make them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub emptied: Vec<String>,
    /// Files that were labelled, as a number: there may be thousands.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub labelled: usize,
    /// What to know about it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Done {
    fn new(part: Part) -> Self {
        Self {
            part,
            removed: Vec::new(),
            restored: Vec::new(),
            emptied: Vec::new(),
            labelled: 0,
            notes: Vec::new(),
        }
    }

    /// In one line; none where nothing was done.
    fn line(&self) -> Option<String> {
        let counts = [
            (self.removed.as_slice(), "removed"),
            (&self.emptied, "emptied"),
            (&self.restored, "as in the base again"),
        ];
        let mut said: Vec<String> = counts
            .iter()
            .filter_map(|(paths, word)| match paths {
                [] => None,
                [one] => Some(format!("{one} {word}")),
                many => Some(format!("{} {word}", many.len())),
            })
            .collect();
        if self.labelled > 0 {
            said.push(format!("{} set", self.labelled));
        }
        said.extend(self.notes.iter().cloned());
        (!said.is_empty()).then(|| format!("{}: {}", self.part.title(), said.join("; ")))
    }
}

/// What the builtin after the steps is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    spec: HygieneSpec,
    before: before::Before,
    /// Inodes changed at this time or later are the bake's: seconds and nanoseconds since 1970.
    since: (i64, i64),
    /// Later than this nothing can have been changed.
    until: (i64, i64),
    /// Whether the changed paths are wanted, for labels.
    changed: bool,
    /// The files of rpm's packages, a line each, where it installed some.
    rpm: String,
}

/// What the builtin after the steps answers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    parts: Vec<Done>,
    findings: Vec<Finding>,
    changed: Vec<PathBuf>,
    /// Changed files whose names no list of lines can hold.
    unnamed: usize,
}

/// Whether anything of it is wanted.
fn wanted(spec: &HygieneSpec) -> bool {
    !spec.parts.is_empty() || spec.audit != Audit::Off
}

/// Notes what there is before the first step. None where nothing of hygiene is wanted.
///
/// # Errors
/// That the root could not be looked at, or that stopping was asked for.
pub async fn record(sandbox: &Sandbox, spec: &HygieneSpec, stop: &Stop) -> Result<Option<Record>> {
    if !wanted(spec) {
        return Ok(None);
    }
    let began = (SystemTime::now(), Instant::now());
    let argument = serde_json::to_value(spec).context("writing what hygiene covers")?;
    let answer = run_builtin(sandbox, BEFORE, argument, stop).await.context("looking at the base")?;
    let before = serde_json::from_str(&answer).context("reading what the base has")?;
    Ok(Some(Record { before, began }))
}

/// Takes out what the bake itself made, audits what changed, and labels it.
///
/// # Errors
/// That something could not be taken out; with `audit = "deny"`, [`Kind::Check`] with all findings; or that
/// stopping was asked for.
pub async fn clean(
    sandbox: &Sandbox,
    spec: &HygieneSpec,
    record: Option<Record>,
    stop: &Stop,
    reporter: &Reporter,
) -> Result<Report> {
    let Some(record) = record else { return Ok(Report::default()) };
    let policy =
        if spec.parts.contains(&Part::SelinuxLabels) { labels::policy(&sandbox.root)? } else { None };
    let (since, until) = record.times();
    let rpm = match spec.audit {
        Audit::Off => String::new(),
        _ => rpm_files_since(sandbox, since, stop).await?,
    };
    let order =
        Order { spec: spec.clone(), before: record.before, since, until, changed: policy.is_some(), rpm };
    let argument = serde_json::to_value(order).context("writing what the base had")?;
    let answer = run_builtin(sandbox, AFTER, argument, stop).await.context("cleaning the image")?;
    let mut answer: Answer = serde_json::from_str(&answer).context("reading what was cleaned")?;
    if let Some(policy) = policy {
        let done = labels::set(sandbox, &policy, &answer.changed, answer.unnamed, stop).await?;
        answer.parts.push(done);
    }
    let report = Report { parts: answer.parts, findings: answer.findings };
    tell(&report, spec, reporter);
    deny(&report, spec)?;
    Ok(report)
}

impl Record {
    /// Between which times an inode's change is the bake's own.
    fn times(&self) -> ((i64, i64), (i64, i64)) {
        let now = SystemTime::now();
        let (wall, steady) = self.began;
        // Somebody may have set the clock back meanwhile: what counts is how long ago the bake began.
        let began = now.checked_sub(steady.elapsed()).map_or(wall, |computed| computed.min(wall));
        let parts = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), i64::from(since.subsec_nanos()))
        };
        // Inodes have the time of the last tick, at most 10 ms ago; a whole second for filesystems that keep no
        // fractions would take in what was done to the base just before, which does no harm but noise.
        let (seconds, nanoseconds) = parts(began - Duration::from_millis(20));
        let (late, more) = parts(now.max(wall));
        ((seconds, nanoseconds), (late + 2, more))
    }
}

fn tell(report: &Report, spec: &HygieneSpec, reporter: &Reporter) {
    for done in &report.parts {
        match done.line() {
            Some(line) => reporter.note(&line),
            None => reporter.detail(&format!("{}: nothing to do", done.part.title())),
        }
        for (word, paths) in
            [("removed", &done.removed), ("emptied", &done.emptied), ("restored", &done.restored)]
        {
            for path in paths {
                reporter.log(&format!("hygiene: {word} {path}"));
            }
        }
    }
    match (spec.audit, report.findings.as_slice()) {
        (Audit::Off, _) => {}
        (_, []) => reporter.note("audit: nothing found"),
        (_, findings) => {
            for (number, finding) in findings.iter().enumerate() {
                if number < SHOWN && spec.audit == Audit::Warn {
                    reporter.warn(&format!("audit: {finding}"));
                } else {
                    reporter.log(&format!("audit: {finding}"));
                }
            }
            if findings.len() > SHOWN {
                reporter.warn(&format!("audit: {} more, see the log", findings.len() - SHOWN));
            }
        }
    }
}

fn deny(report: &Report, spec: &HygieneSpec) -> Result<()> {
    if spec.audit != Audit::Deny || report.findings.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> =
        report.findings.iter().take(SHOWN).map(|finding| format!("\n  {finding}")).collect();
    if report.findings.len() > SHOWN {
        lines.push(format!("\n  and {} more, see the log", report.findings.len() - SHOWN));
    }
    let count = match report.findings.len() {
        1 => "one thing".to_owned(),
        many => format!("{many} things"),
    };
    let message = format!("the audit found {count} that the base has not:{}", lines.concat());
    let hint =
        "take them out in a step, or name those that are meant in [hygiene] accept, or set audit = \"warn\"";
    Err(Failure::new(Kind::Check, message).hint(hint).into())
}

async fn run_builtin(
    sandbox: &Sandbox,
    name: &str,
    argument: serde_json::Value,
    stop: &Stop,
) -> Result<String> {
    let mut run = Run::new(Program::Builtin(name.to_owned(), argument));
    run.network = Network::None;
    // The one sync at the bake's end is enough.
    run.suppress_sync = true;
    run.timeout = Some(LONGEST);
    // What is longer than the sandbox's lines are comes in several; the answer itself has no line breaks.
    Ok(heard(sandbox, &run, name, stop).await?.replace('\n', ""))
}

/// How a path inside is shown: absolute, whatever bytes it has.
fn shown(inner: &Path) -> String {
    Path::new("/").join(inner).to_string_lossy().into_owned()
}

/// What was at each of several places: path beneath the root, without the first `/`.
type ByPath<T> = BTreeMap<PathBuf, T>;
