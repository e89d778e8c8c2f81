//! A program of this host, run to its end: heard line by line, ended when stopping is asked for, and quoted
//! with its whole line and what it said when it fails.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{AccessFlags, Pid, access};

use crate::error::{Failure, Interrupted, Kind};
use crate::stop::Stop;

/// How often a silent program is asked whether it ended, and the request to stop is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Lines of its standard error that a failure quotes at most.
const QUOTED: usize = 30;

/// One run of a program, not yet started.
#[derive(Debug)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Option<String>,
    contained: bool,
    at_most: Option<Duration>,
}

/// The first process of a namespace of its own takes no signal that it does not ask for: this one does, and
/// ends with the program, and all else that is left with it.
const INIT: &str = r#"trap 'exit 143' TERM; exec 3<&0; "$0" "$@" <&3 3<&- & exec <&- 3<&-; wait $!"#;

/// Where a program is: `PATH`, then the administrator's folders that a user's `PATH` may lack.
pub fn find(program: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok())
}

/// A word as a shell takes it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

impl Program {
    /// A run of `name`, looked up by [`find`].
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        Self {
            name: name.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: None,
            contained: false,
            at_most: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment, which is this process's own otherwise.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What it reads on its standard input; nothing otherwise.
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// In a PID namespace of its own, which ends with it and with this process, by SIGKILL too: nothing that it
    /// starts outlives either.
    pub fn contained(mut self) -> Self {
        self.contained = true;
        self
    }

    /// Ends it after so long, which is a failure.
    pub fn at_most(mut self, limit: Option<Duration>) -> Self {
        self.at_most = limit;
        self
    }

    /// Its whole line, for people.
    pub fn line(&self) -> String {
        let mut line = self.name.to_string_lossy().into_owned();
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&quoted(&argument.to_string_lossy()));
        }
        line
    }

    /// It as a [`Command`], for a run that has the terminal.
    ///
    /// # Errors
    /// [`Kind::Host`] when this host has no such program.
    pub fn command(&self) -> Result<Command> {
        let find = |name: &OsStr| {
            find(name).ok_or_else(|| {
                Failure::new(Kind::Host, format!("this host lacks the program {}", name.to_string_lossy()))
                    .hint("`bakehouse doctor` names the packages to install")
            })
        };
        let path = find(&self.name)?;
        let mut command = if self.contained {
            // The death of the thread that starts it is what it hears of: that thread waits for its end.
            let mut command = Command::new(find("setpriv".as_ref())?);
            command.args(["--pdeathsig", "KILL", "--"]).arg(find("unshare".as_ref())?);
            command.args(["--pid", "--fork", "--kill-child", "--", "/bin/sh", "-c", INIT]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.args(&self.arguments).envs(self.environment.iter().map(|(key, value)| (key, value)));
        Ok(command)
    }

    /// Runs it to its end; its standard output. `hear` is told each line of its standard error as it comes.
    ///
    /// It is in a process group of its own: a Ctrl-C reaches it by way of `stop` alone, as SIGTERM to the
    /// group, and it has ten seconds to end then.
    ///
    /// # Errors
    /// [`Kind::Host`] when this host has no such program; an interruption; its failure, with its whole line
    /// and the end of its standard error.
    pub fn run(self, stop: &Stop, hear: &mut dyn FnMut(&str)) -> Result<String> {
        let line = self.line();
        stop.check()?;
        tracing::debug!("running {line}");
        let mut child = self
            .command()?
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {line}"))?;
        let mut said = VecDeque::new();
        let mut stdout = Vec::new();
        let limit = self.at_most.map(|limit| (Instant::now(), limit));
        let heard = listen(&mut child, self.input, (stop, limit), &mut |from, bytes| match from {
            Source::Output => stdout.extend_from_slice(bytes),
            Source::Error => {
                let text = String::from_utf8_lossy(bytes);
                let text = text.trim_end();
                hear(text);
                said.push_back(text.to_owned());
                if said.len() > QUOTED {
                    said.pop_front();
                }
            }
        });
        let status = match heard {
            Ok(status) => status,
            Err(error) => {
                end(&mut child)?;
                return Err(match error.downcast_ref::<Interrupted>() {
                    Some(_) => error,
                    None => error.context(format!("running {line}")),
                });
            }
        };
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        let mut text = said.make_contiguous().join("\n");
        if text.trim().is_empty() {
            text = String::from_utf8_lossy(&stdout).trim().to_owned();
        }
        let ended = format!("`{line}` ended with {status}");
        Err(if text.is_empty() { anyhow::anyhow!(ended) } else { anyhow::anyhow!("{ended}:\n{text}") })
    }
}

/// Which of a program's two streams.
#[derive(Debug, Clone, Copy)]
enum Source {
    Output,
    Error,
}

/// Hears a program until it has ended and both its streams too.
fn listen(
    child: &mut Child,
    input: Option<String>,
    (stop, limit): (&Stop, Option<(Instant, Duration)>),
    hear: &mut dyn FnMut(Source, &[u8]),
) -> Result<ExitStatus> {
    let (sender, receiver) = mpsc::channel();
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        std::thread::spawn(move || {
            if let Err(error) = pipe.write_all(text.as_bytes()) {
                // The program's own status says more than the broken pipe.
                tracing::debug!("writing to a program: {error}");
            }
        });
    }
    if let Some(pipe) = child.stdout.take() {
        forward(pipe, Source::Output, sender.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        forward(pipe, Source::Error, sender);
    }
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok((from, bytes)) => hear(from, &bytes),
            // It closed both, which is its end for most, but for some not yet.
            Err(RecvTimeoutError::Disconnected) => {
                if let Some(status) = child.try_wait().context("waiting for a program")? {
                    return Ok(status);
                }
                std::thread::sleep(LOOK / 50);
            }
            Err(RecvTimeoutError::Timeout) => match ended {
                // A daemon that it left behind may hold the streams for ever.
                Some((status, since)) if since.elapsed() > LOOK * 10 => return Ok(status),
                Some(_) => {}
                None => {
                    let status = child.try_wait().context("waiting for a program")?;
                    ended = status.map(|status| (status, Instant::now()));
                }
            },
        }
        stop.check()?;
        if let Some((_, limit)) = limit.filter(|(began, limit)| began.elapsed() > *limit) {
            return Err(Failure::new(Kind::Step, format!("it took longer than {} s", limit.as_secs()))
                .hint("raise its timeout, or see in the log what it waited for")
                .into());
        }
    }
}

fn forward(pipe: impl Read + Send + 'static, from: Source, to: mpsc::Sender<(Source, Vec<u8>)>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut bytes) {
            if to.send((from, std::mem::take(&mut bytes))).is_err() {
                return;
            }
        }
    });
}

/// Ends a program and all of its group.
fn end(child: &mut Child) -> Result<()> {
    let group = Pid::from_raw(i32::try_from(child.id()).context("naming a program's group")?);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if let Err(errno) = killpg(group, signal) {
            tracing::debug!("sending {signal} to {group}: {errno}");
        }
        let since = Instant::now();
        while since.elapsed() < GRACE {
            if child.try_wait().context("waiting for a program to end")?.is_some() {
                return Ok(());
            }
            std::thread::sleep(LOOK / 5);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[test]
    fn output_is_returned_and_standard_error_is_heard() {
        let mut heard = Vec::new();
        let output = shell("cat; echo one >&2; echo two >&2")
            .input("in")
            .run(&Stop::default(), &mut |line| heard.push(line.to_owned()));
        assert_eq!((output.unwrap().as_str(), heard), ("in", vec!["one".to_owned(), "two".to_owned()]));
    }

    #[test]
    fn a_failure_quotes_the_whole_line_and_what_was_said() {
        let error = shell("echo 'no room' >&2; exit 3").run(&Stop::default(), &mut |_| {}).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`sh -c 'echo ") && text.contains("exit status: 3:\nno room"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_lack_of_the_host() {
        let error = Program::new("bakehouse-no-such-program").run(&Stop::default(), &mut |_| {}).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Host);
    }

    #[test]
    fn stopping_ends_the_program_and_its_children() {
        let stop = Stop::default();
        let stopper = stop.clone();
        let error = shell("sleep 100 & echo $! >&2; wait")
            .run(&stop, &mut |line| {
                assert!(line.parse::<i32>().is_ok());
                stopper.raise(15);
            })
            .unwrap_err();
        assert_eq!(crate::error::exit_status(&error), 143);
    }

    /// Whether a process is there, and more than an entry that nobody has waited for.
    fn lives(pid: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    }

    fn ends(pid: i32) {
        let start = Instant::now();
        while lives(pid) {
            assert!(start.elapsed() < Duration::from_secs(20), "{pid} lives on");
            std::thread::sleep(LOOK / 5);
        }
    }

    #[test]
    fn what_a_contained_program_leaves_behind_ends_with_it() {
        if !nix::unistd::Uid::effective().is_root() {
            return;
        }
        let mut daemon = 0;
        let script = "read -r word; sleep 1000 >/dev/null 2>&1 & echo \"$1 $word\"; exit 3";
        let error = Program::new("sh")
            .args(["-c", script, "sh", "argument with 'quotes'"])
            .input("heard\n")
            .contained()
            .run(&Stop::default(), &mut |_| {})
            .unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("`sh -c") && told.contains("exit status: 3:\nargument with 'quotes' heard"),
            "{told}"
        );
        // /proc is still this namespace's, and so are the numbers in it.
        let own = "read -r pid rest < /proc/self/stat; echo $pid; exec sleep 1000 >/dev/null 2>&1";
        shell(&format!("echo $( {{ {own}; }} & ) >&2"))
            .contained()
            .run(&Stop::default(), &mut |line| daemon = line.parse().unwrap())
            .unwrap();
        ends(daemon);
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_all_of_its_own() {
        if !nix::unistd::Uid::effective().is_root() {
            return;
        }
        let start = Instant::now();
        let mut shell_of_it = 0;
        let error = shell("cut -d' ' -f4 /proc/self/stat >&2; setsid sleep 1000; true")
            .contained()
            .at_most(Some(Duration::from_secs(1)))
            .run(&Stop::default(), &mut |line| shell_of_it = line.parse().unwrap())
            .unwrap_err();
        assert!(start.elapsed() < GRACE, "it heard SIGTERM");
        assert_eq!(crate::error::kind_of(&error), Kind::Step);
        assert!(format!("{error:#}").contains("took longer than 1 s"), "{error:#}");
        ends(shell_of_it);
    }

    #[test]
    fn a_program_that_closed_its_streams_is_ended_in_time_too() {
        let start = Instant::now();
        let error = shell("exec >&- 2>&-; exec sleep 20")
            .at_most(Some(Duration::from_millis(200)))
            .run(&Stop::default(), &mut |_| {})
            .unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Step, "{error:#}");
        assert!(start.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_daemon_that_holds_the_streams_is_not_waited_for() {
        let start = Instant::now();
        let mut daemon = None;
        let script = "sleep 30 & echo $! >&2";
        shell(script).run(&Stop::default(), &mut |line| daemon = line.parse().ok()).unwrap();
        assert!(start.elapsed() < Duration::from_secs(20));
        nix::sys::signal::kill(Pid::from_raw(daemon.unwrap()), Signal::SIGKILL).unwrap();
    }
}
