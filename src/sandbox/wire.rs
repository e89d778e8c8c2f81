//! What passes over the control socket between the caller and the helpers: the spec in, the outcome out.
//!
//! A frame is a tag byte, the length of what follows (8 bytes, little-endian) and that many bytes of JSON. The
//! program that runs inside never has this socket: it is closed by exec, and the sandbox's init, which has
//! it, cannot be traced or looked into from inside.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::{Outcome, Run};
use crate::error::{Failure, Kind, failure_of};
use crate::sys;

/// A frame that carries a [`Spec`].
const SPEC: u8 = b'S';
/// A frame that carries a [`Message`].
const MESSAGE: u8 = b'M';
/// An empty frame that brings the terminal's descriptor along.
const TERMINAL: u8 = b'T';
/// No frame is longer: a spec holds a builtin's argument at most.
const LONGEST: u64 = 256 << 20;

/// All that the helpers are told.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Spec {
    pub(super) root: PathBuf,
    pub(super) run: Run,
}

/// What the helpers tell.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Message {
    /// The program exited with this status.
    Exited(i32),
    /// A signal ended the program.
    Signaled(i32),
    /// It could not be run at all, or a builtin failed.
    Failed(Failed),
}

/// An error, so that the caller sees the chain that the helper saw.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Failed {
    /// Messages, outermost first.
    chain: Vec<String>,
    /// The known failure in it.
    failure: Option<(Kind, String, Option<String>)>,
}

/// What came over the socket.
#[derive(Debug)]
pub(super) enum Received {
    Spec(Box<Spec>),
    Message(Message),
    Terminal(OwnedFd),
    /// The other end is closed.
    End,
}

impl Failed {
    /// The error as it travels; `otherwise` is its kind where it has none.
    pub(super) fn of(error: &anyhow::Error, otherwise: Kind) -> Self {
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        let failure = match failure_of(error) {
            Some(known) => Some((known.kind, known.message.clone(), known.hint.clone())),
            None => chain.first().map(|outermost| (otherwise, outermost.clone(), None)),
        };
        Self { chain, failure }
    }

    /// The error again.
    pub(super) fn into_error(mut self) -> anyhow::Error {
        let mut error: Option<anyhow::Error> = None;
        for text in self.chain.into_iter().rev() {
            let known = match self.failure.take() {
                Some((kind, message, hint)) if message == text => Some(Failure { kind, message, hint }),
                other => {
                    self.failure = other;
                    None
                }
            };
            error = Some(match (error, known) {
                (None, Some(failure)) => failure.into(),
                (None, None) => anyhow::Error::msg(text),
                (Some(inner), Some(failure)) => inner.context(failure),
                (Some(inner), None) => inner.context(text),
            });
        }
        error.unwrap_or_else(|| anyhow::anyhow!("the sandbox failed without saying why"))
    }
}

impl Message {
    /// As the caller sees it.
    pub(super) fn into_outcome(self) -> Result<Outcome> {
        match self {
            Self::Exited(status) => Ok(Outcome::Exited(status)),
            Self::Signaled(signal) => Ok(Outcome::Signaled(signal)),
            Self::Failed(failed) => Err(failed.into_error()),
        }
    }
}

/// Sends the spec, and the program's input along with it.
pub(super) fn send_spec(socket: &UnixStream, spec: &Spec) -> Result<()> {
    let input = spec.run.input.as_ref().map(|input| input.as_fd());
    send(socket, SPEC, &serde_json::to_vec(spec)?, input).context("telling the sandbox what to run")
}

/// Sends a message.
pub(super) fn send_message(socket: &UnixStream, message: &Message) -> Result<()> {
    send(socket, MESSAGE, &serde_json::to_vec(message)?, None).context("telling the sandbox's outcome")
}

/// Sends the terminal.
pub(super) fn send_terminal(socket: &UnixStream, terminal: BorrowedFd<'_>) -> Result<()> {
    let mut header = [0; 9];
    if let Some(tag) = header.first_mut() {
        *tag = TERMINAL;
    }
    let sent = sys::net::send_with_fd(socket.as_fd(), &header, Some(terminal))
        .context("handing out the sandbox's terminal")?;
    if sent != header.len() {
        bail!("handing out the sandbox's terminal: sent {sent} bytes of {}", header.len());
    }
    Ok(())
}

/// A descriptor goes along with the tag.
fn send(socket: &UnixStream, tag: u8, body: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut frame = Vec::with_capacity(body.len() + 9);
    match fd {
        Some(_) => drop(sys::net::send_with_fd(socket.as_fd(), &[tag], fd)?),
        None => frame.push(tag),
    }
    frame.extend_from_slice(&(body.len() as u64).to_le_bytes());
    frame.extend_from_slice(body);
    let mut socket = socket;
    Ok(socket.write_all(&frame)?)
}

/// Waits for the next frame.
pub(super) fn receive(socket: &UnixStream) -> Result<Received> {
    let mut tag = [0];
    let (count, fd) =
        sys::net::receive_with_fd(socket.as_fd(), &mut tag).context("listening to the sandbox")?;
    if count == 0 {
        return Ok(Received::End);
    }
    let mut socket = socket;
    let mut length = [0; 8];
    socket.read_exact(&mut length).context("reading a frame's length")?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST {
        bail!("a frame of {length} bytes is longer than any");
    }
    let mut body = vec![0; usize::try_from(length)?];
    socket.read_exact(&mut body).context("reading a frame")?;
    match (tag, fd) {
        ([SPEC], fd) => {
            let mut spec: Spec = serde_json::from_slice(&body).context("reading the spec")?;
            spec.run.input = fd.map(Arc::new);
            Ok(Received::Spec(Box::new(spec)))
        }
        ([MESSAGE], _) => {
            Ok(Received::Message(serde_json::from_slice(&body).context("reading the outcome")?))
        }
        ([TERMINAL], Some(fd)) => Ok(Received::Terminal(fd)),
        ([tag], _) => bail!("a frame of the unknown kind {tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{exit_status, kind_of};

    #[test]
    fn an_error_keeps_its_chain_and_kind_on_the_way() {
        let error = anyhow::Error::from(std::io::Error::other("no such file"))
            .context(Failure::new(Kind::Step, "no program").hint("install it"))
            .context("running");
        let sent = serde_json::to_string(&Failed::of(&error, Kind::Host)).unwrap();
        let error = serde_json::from_str::<Failed>(&sent).unwrap().into_error();
        assert_eq!(format!("{error:#}"), "running: no program: no such file");
        assert_eq!(kind_of(&error), Kind::Step);
        assert_eq!(failure_of(&error).unwrap().hint.as_deref(), Some("install it"));
    }

    #[test]
    fn an_error_without_a_kind_gets_the_default() {
        let error = anyhow::anyhow!("inner").context("outer");
        let error = Failed::of(&error, Kind::Host).into_error();
        assert_eq!(format!("{error:#}"), "outer: inner");
        assert_eq!(exit_status(&error), Kind::Host as u8);
    }
}
