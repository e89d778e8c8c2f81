//! `bakehouse-inside`: what a step's program on the builder runs to have something done in the root. This binary by
//! another name.
//!
//! ```text
//! bakehouse-inside PROGRAM [ARGUMENT...]   runs it inside: its input, output, errors and exit status are this one's
//! bakehouse-inside --put PATH              writes standard input to a file inside (mode 0600 where it is new)
//! bakehouse-inside --fetch PATH            writes a file of inside to standard output
//! ```
//!
//! Exit status 127: it could not be run at all; 128+n: signal n ended it.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::wire::{self, End, Kind, Request};
use super::{CLIENT, DOOR};

/// Exit status where nothing could be run.
const NOT_RUN: i32 = 127;

/// Does the client's work and never returns where this process was started by its name; else does nothing.
pub fn entry() {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    if Path::new(&name).file_name().is_none_or(|name| name != CLIENT) {
        return;
    }
    let status = work(words.collect()).unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "{CLIENT}: {error:#}"));
        NOT_RUN
    });
    std::process::exit(status)
}

fn work(words: Vec<OsString>) -> Result<i32> {
    let request = request(words)?;
    let mut socket = UnixStream::connect(Path::new(DOOR).join("socket"))
        .with_context(|| format!("connecting by {DOOR}, which only a step on the builder has"))?;
    wire::send_request(&socket, &request).context("asking")?;
    if let Request::Fetch(_) = request {
        socket.shutdown(Shutdown::Write).context("asking")?;
    } else {
        let mut input = socket.try_clone().context("passing the input on")?;
        // Not waited for: the program may end without having read it.
        thread::spawn(move || {
            if io::copy(&mut io::stdin().lock(), &mut input).is_ok() {
                drop(input.shutdown(Shutdown::Write));
            }
        });
    }
    loop {
        let (kind, body) = wire::receive(&mut socket).context("the sandbox ended meanwhile")?;
        match kind {
            Kind::Out => io::stdout().write_all(&body).context("writing its output")?,
            Kind::Err => io::stderr().write_all(&body).context("writing its errors")?,
            Kind::End => {
                io::stdout().flush().context("writing its output")?;
                return match serde_json::from_slice(&body).context("reading how it ended")? {
                    End::Exited(status) => Ok(status),
                    End::Signaled(signal) => Ok(128 + signal),
                    End::Failed(why) => bail!("{why}"),
                };
            }
        }
    }
}

fn request(words: Vec<OsString>) -> Result<Request> {
    let words = words
        .into_iter()
        .map(|word| word.into_string().map_err(|word| anyhow::anyhow!("{word:?} is not UTF-8")))
        .collect::<Result<Vec<_>>>()?;
    Ok(match words.as_slice() {
        [] => bail!("what is to be run? PROGRAM [ARGUMENT...], --put PATH or --fetch PATH"),
        [flag, path] if flag == "--put" => Request::Put(path.into()),
        [flag, path] if flag == "--fetch" => Request::Fetch(path.into()),
        [flag, ..] if flag.starts_with('-') => {
            bail!("{flag}: known are PROGRAM [ARGUMENT...], --put PATH and --fetch PATH")
        }
        _ => Request::Run(words),
    })
}
