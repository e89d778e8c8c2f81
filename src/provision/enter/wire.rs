//! What passes over the socket. The client sends a request (its length, 4 bytes big-endian, and JSON) and then what
//! the program is to read, up to the end of the stream. The server sends frames: a kind, a length (4 bytes
//! big-endian) and so many bytes.

use std::io::{self, Read, Write};
use std::path::PathBuf;

/// No request and no frame is longer.
const LONGEST: u32 = 16 << 20;

/// What is to be done inside.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    /// Run this argument vector.
    Run(Vec<String>),
    /// Write what follows to this file.
    Put(PathBuf),
    /// Send this file's content.
    Fetch(PathBuf),
}

/// How it ended.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
    /// The program's exit status.
    Exited(i32),
    /// The signal that ended the program.
    Signaled(i32),
    /// It could not be done: why.
    Failed(String),
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Out = b'o',
    Err = b'e',
    End = b'x',
}

pub(super) fn send_request(mut to: impl Write, request: &Request) -> io::Result<()> {
    let body = serde_json::to_vec(request)?;
    let mut frame = length_of(&body)?.to_vec();
    frame.extend_from_slice(&body);
    to.write_all(&frame)
}

pub(super) fn receive_request(mut from: impl Read) -> io::Result<Request> {
    let body = receive_body(&mut from)?;
    Ok(serde_json::from_slice(&body)?)
}

pub(super) fn send(mut to: impl Write, kind: Kind, body: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(body.len() + 5);
    frame.push(kind as u8);
    frame.extend_from_slice(&length_of(body)?);
    frame.extend_from_slice(body);
    to.write_all(&frame)
}

pub(super) fn receive(mut from: impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    let kind = match kind {
        [b'o'] => Kind::Out,
        [b'e'] => Kind::Err,
        [b'x'] => Kind::End,
        [other] => return Err(io::Error::other(format!("a frame of the unknown kind {other}"))),
    };
    Ok((kind, receive_body(&mut from)?))
}

fn length_of(body: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= LONGEST);
    length.map(u32::to_be_bytes).ok_or_else(|| io::Error::other("it is too long"))
}

fn receive_body(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::Error::other(format!("{length} bytes are more than any request or frame has")));
    }
    let mut body = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut body)?;
    match u32::try_from(body.len()) {
        Ok(read) if read == length => Ok(body),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_and_frames_arrive() {
        let mut wire = Vec::new();
        send_request(&mut wire, &Request::Run(vec!["sh".into(), "-c".into(), "a \"b\"\n".into()])).unwrap();
        send(&mut wire, Kind::Out, b"\0\xff").unwrap();
        send(&mut wire, Kind::End, &serde_json::to_vec(&End::Exited(3)).unwrap()).unwrap();
        let mut from = wire.as_slice();
        let Request::Run(words) = receive_request(&mut from).unwrap() else { panic!() };
        assert_eq!(words, ["sh", "-c", "a \"b\"\n"]);
        assert_eq!(receive(&mut from).unwrap(), (Kind::Out, b"\0\xff".to_vec()));
        assert_eq!(receive(&mut from).unwrap(), (Kind::End, br#"{"exited":3}"#.to_vec()));
        assert!(receive(&mut from).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(receive_request(bytes.as_slice()));
            drop(receive(bytes.as_slice()));
        }
    }
}
