//! Progress, timeline, logs, result documents. Does not know how anything is done.
//!
//! Standard output carries the result alone; all that is here goes to standard error and to the bake's log.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::stop::Stop;

pub mod failure;
pub mod result;

/// How much goes to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volume {
    /// Warnings and errors alone.
    Quiet,
    /// Phases and the output of steps.
    Normal,
    /// All that is logged.
    Verbose,
}

/// How progress is written to standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    ///
    /// It has `time` (RFC 3339), `seconds` since the start, `kind` (`phase`, `note`, `detail`, `warning`, `output`,
    /// `question`, `error`), `text`, and where there is one `bake`, `phase` and `step`.
    Json,
}

/// A phase and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// `resolve`, `disk`, `mount`, …
    pub name: String,
    /// How long it took.
    pub took: Duration,
}

/// Tells people what is going on, and remembers how long each phase took. Clones share it. Names of files, answers and
/// programs' words stand in what is told: control characters in it are shown, not obeyed.
#[derive(Debug, Clone)]
pub struct Reporter(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    volume: Volume,
    format: Format,
    colour: bool,
    began: Instant,
    phases: Vec<Phase>,
    current: Option<(String, Instant)>,
    log: Option<(PathBuf, File)>,
    stop: Option<Stop>,
    /// Texts that are not to be told, the longest first.
    masks: Vec<String>,
}

impl Reporter {
    /// A reporter to standard error.
    pub fn new(volume: Volume) -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let inner = Inner {
            volume,
            format: Format::Text,
            colour,
            began: Instant::now(),
            phases: Vec::new(),
            current: None,
            log: None,
            stop: None,
            masks: Vec::new(),
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// From now on progress is written so.
    pub fn write_as(&self, format: Format) {
        self.lock().format = format;
    }

    /// From now on a reader of standard error that goes away asks to stop, once, as its signal would.
    pub fn stop_when_unheard(&self, stop: &Stop) {
        self.lock().stop = Some(stop.clone());
    }

    /// From now on these texts are told as `***`.
    pub fn mask(&self, texts: &[String]) {
        let mut inner = self.lock();
        inner.masks.extend(texts.iter().filter(|text| !text.is_empty()).cloned());
        inner.masks.sort_by_key(|text| std::cmp::Reverse(text.len()));
        inner.masks.dedup();
    }

    /// A text without what is not to be told.
    pub fn masked(&self, text: &str) -> String {
        self.lock().masked(text)
    }

    /// From now on everything is kept in a bake's log as well, however quiet standard error is.
    pub fn log_to(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("making the folder of logs {}", folder.display()))?;
        }
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("opening the bake's log {}", path.display()))?;
        self.lock().log = Some((path.to_owned(), file));
        Ok(())
    }

    /// The bake's log, when one is kept.
    pub fn log_path(&self) -> Option<PathBuf> {
        self.lock().log.as_ref().map(|(path, _)| path.clone())
    }

    /// Begins a phase; the one before it ends.
    pub fn phase(&self, name: &str, about: &str) {
        let about = &harmless_lines(about);
        let mut inner = self.lock();
        inner.end_phase();
        inner.current = Some((name.to_owned(), Instant::now()));
        let at = inner.began.elapsed().as_secs_f64();
        let shown = inner.paint("1", &format!("{name:<9}"));
        let told = Told { kind: "phase", text: about, step: None };
        inner.say(
            Volume::Normal,
            &told,
            &format!("{at:7.2} s  {shown} {about}"),
            &format!("{name:<9} {about}"),
        );
    }

    /// Something to know within a phase.
    pub fn note(&self, text: &str) {
        let text = &harmless_lines(text);
        let mut inner = self.lock();
        let told = Told { kind: "note", text, step: None };
        inner.say(Volume::Normal, &told, &format!("           {:<9} {text}", ""), text);
    }

    /// A question to whoever attends: heard however quiet it is.
    pub fn ask(&self, text: &str) {
        let text = &harmless_lines(text);
        let mut inner = self.lock();
        let shown = inner.paint("1", text);
        inner.say(Volume::Quiet, &Told { kind: "question", text, step: None }, &shown, text);
    }

    /// Something that only a closer look needs.
    pub fn detail(&self, text: &str) {
        let text = &harmless_lines(text);
        let mut inner = self.lock();
        let told = Told { kind: "detail", text, step: None };
        inner.say(Volume::Verbose, &told, &format!("           {:<9} {text}", ""), text);
    }

    /// Something that is not right but does not end the bake.
    pub fn warn(&self, text: &str) {
        let text = &harmless_lines(text);
        let mut inner = self.lock();
        let shown = format!("{} {text}", inner.paint("33;1", "warning:"));
        inner.say(
            Volume::Quiet,
            &Told { kind: "warning", text, step: None },
            &shown,
            &format!("warning: {text}"),
        );
    }

    /// A line of a step's own output. Control characters are shown, not obeyed: it comes from programs that
    /// nobody here wrote.
    pub fn line(&self, step: &str, text: &str) {
        let text = harmless(text);
        let mut inner = self.lock();
        let shown = format!("{} {text}", inner.paint("2", &format!("{step:>19} │")));
        let told = Told { kind: "output", text: &text, step: Some(step) };
        inner.say(Volume::Normal, &told, &shown, &format!("{step} | {text}"));
    }

    /// Ends the last phase; all of them, in order.
    pub fn phases(&self) -> Vec<Phase> {
        let mut inner = self.lock();
        inner.end_phase();
        inner.phases.clone()
    }

    /// Since the reporter was made.
    pub fn elapsed(&self) -> Duration {
        self.lock().began.elapsed()
    }

    /// A line for the log alone.
    pub fn log(&self, text: &str) {
        let text = harmless_lines(text);
        self.lock().write_log(&text);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end_phase(&mut self) {
        if let Some((name, since)) = self.current.take() {
            let took = since.elapsed();
            // A phase entered again (steps after a check, say) adds to its first entry.
            match self.phases.iter_mut().find(|phase| phase.name == name) {
                Some(phase) => phase.took += took,
                None => self.phases.push(Phase { name, took }),
            }
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn masked(&self, text: &str) -> String {
        self.masks.iter().fold(text.to_owned(), |text, mask| text.replace(mask.as_str(), "***"))
    }

    fn say(&mut self, from: Volume, told: &Told<'_>, shown: &str, logged: &str) {
        if self.volume >= from {
            let line = match self.format {
                Format::Text => self.masked(shown.trim_end()),
                Format::Json => {
                    let text = self.masked(told.text);
                    self.document(&Told { text: &text, ..*told }).to_string()
                }
            };
            // In one write: other processes' lines may come in between.
            let line = format!("{line}\n");
            if let Err(error) = std::io::stderr().write_all(line.as_bytes()) {
                self.unheard(&error);
            }
        }
        self.write_log(logged);
    }

    fn document(&self, told: &Told<'_>) -> serde_json::Value {
        let bake =
            self.log.as_ref().and_then(|(path, _)| path.file_stem()).map(|stem| stem.to_string_lossy());
        let fields = [
            ("bake", bake.as_deref()),
            ("phase", self.current.as_ref().map(|(name, _)| name.as_str())),
            ("step", told.step),
            ("kind", Some(told.kind)),
            ("text", Some(told.text)),
        ];
        let mut document = stamp(self.began.elapsed());
        document.extend(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into()))));
        document.into()
    }

    /// Nobody hears any more: a pipe's reader ended, or the terminal went away (the kernel's SIGHUP does not
    /// reach a process of another session). Other errors, a full disk under a file, must not end a bake.
    fn unheard(&mut self, error: &std::io::Error) {
        let signal = match error.raw_os_error() {
            Some(libc::EPIPE) => libc::SIGPIPE,
            Some(libc::EIO) => libc::SIGHUP,
            _ => return,
        };
        if let Some(stop) = self.stop.take() {
            self.write_log("nobody hears standard error any more: stopping");
            stop.raise(signal);
        }
    }

    fn write_log(&mut self, text: &str) {
        let at = self.began.elapsed().as_secs_f64();
        let text = self.masked(text);
        if let Some((_, file)) = &mut self.log {
            // A full disk under the log must not end a bake.
            drop(file.write_all(format!("{at:9.3} {}\n", text.trim_end()).as_bytes()));
        }
    }
}

/// What a line tells.
struct Told<'a> {
    kind: &'a str,
    text: &'a str,
    step: Option<&'a str>,
}

fn stamp(since_start: Duration) -> serde_json::Map<String, serde_json::Value> {
    let time = format!("{:.3}", jiff::Timestamp::now());
    let entries = [("time", time.into()), ("seconds", result::rounded(since_start).into())];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The text with every control character but tab made visible, so that a package's output cannot steer the
/// operator's terminal. Colours (SGR sequences) are taken out.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        let (before, from) = rest.split_at(at);
        shown.push_str(before);
        if let Some(after) = strip_sgr(from) {
            rest = after;
            continue;
        }
        let mut characters = from.chars();
        if let Some(control) = characters.next() {
            shown.extend(control.escape_default());
        }
        rest = characters.as_str();
    }
    shown.push_str(rest);
    shown
}

/// A text of several lines, each [`harmless`].
fn harmless_lines(text: &str) -> String {
    text.lines().map(harmless).collect::<Vec<_>>().join("\n")
}

/// What follows an SGR sequence (`ESC [ digits ; … m`) that the text begins with.
fn strip_sgr(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    body.get(end..)?.strip_prefix('m')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[31mred\x1b[0m b"), "ared b");
        assert_eq!(harmless("\x1b]0;title\x07x"), "\\u{1b}]0;title\\u{7}x");
        assert_eq!(harmless("\x1b[2Jx\ty"), "\\u{1b}[2Jx\ty");
        assert_eq!(harmless("\x1b["), "\\u{1b}[");
    }

    #[test]
    fn a_name_within_a_note_or_a_warning_cannot_either() {
        let folder = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(Volume::Quiet);
        let path = folder.path().join("bake.log");
        reporter.log_to(&path).unwrap();
        reporter.phase("bake", "a\u{1b}[2J");
        reporter.note("removed /var/log/b\u{1b}]0;x\u{7}\nand more");
        reporter.detail("c\r");
        reporter.warn("d\u{9b}2J");
        reporter.log("e\u{8}");
        let log = std::fs::read_to_string(path).unwrap();
        assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
        assert!(log.contains("removed /var/log/b\\u{1b}]0;x\\u{7}\nand more"), "{log}");
    }

    #[test]
    fn a_line_of_json_tells_when_what_and_of_which_bake() {
        let folder = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(Volume::Quiet);
        reporter.log_to(&folder.path().join("bake-1a.log")).unwrap();
        reporter.phase("provision", "step 1 of 1: apt");
        let told = Told { kind: "output", text: "Setting up \"web\"", step: Some("apt") };
        let document = reporter.lock().document(&told);
        assert!(document["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert!(document["seconds"].as_f64().is_some_and(|seconds| seconds < 60.0));
        for (key, value) in [
            ("bake", "bake-1a"),
            ("phase", "provision"),
            ("step", "apt"),
            ("kind", "output"),
            ("text", "Setting up \"web\""),
        ] {
            assert_eq!(document[key], value);
        }
    }

    #[test]
    fn what_is_masked_is_told_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(Volume::Quiet);
        let path = folder.path().join("bake.log");
        reporter.log_to(&path).unwrap();
        reporter.mask(&["hunter".to_owned(), "hunter22".to_owned(), String::new()]);
        reporter.line("apt", "password=hunter22 hunter2");
        reporter.warn("hunter22");
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(log.contains("apt | password=*** ***2") && log.contains("warning: ***"), "{log}");
        assert_eq!(reporter.masked("xhunter22x"), "x***x");
    }

    #[test]
    fn a_phase_entered_again_adds_to_its_first_entry() {
        let reporter = Reporter::new(Volume::Quiet);
        reporter.phase("steps", "");
        reporter.phase("checks", "");
        reporter.phase("steps", "");
        let names: Vec<_> = reporter.phases().into_iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["steps", "checks"]);
    }

    #[test]
    fn the_log_has_what_a_quiet_standard_error_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(Volume::Quiet);
        let path = folder.path().join("logs/bake.log");
        reporter.log_to(&path).unwrap();
        reporter.line("apt", "Setting up web");
        assert!(std::fs::read_to_string(&path).unwrap().contains("apt | Setting up web"));
    }
}
