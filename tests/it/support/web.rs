//! A web server of a folder's files, plain or by TLS.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::authority::Authority;

/// The folder's file that shuts the server: while it is there, nobody is given anything.
pub const SHUT: &str = "shut";

/// How a path is answered that is not simply there or not.
enum Manner {
    /// By sending the client elsewhere.
    Redirect(String),
    /// With half of the content, and no more: the connection ends.
    Half,
    /// With an error of the server's, so many times; then as it should.
    Unwell(usize),
    /// With half of the content, and no more: the connection stays until the client leaves.
    Stall,
}

/// One on a port of this host. It ends with the test's process.
pub struct Web {
    pub address: SocketAddr,
    served: Arc<Served>,
}

struct Served {
    folder: PathBuf,
    manners: Mutex<BTreeMap<String, Manner>>,
    asked: Mutex<Vec<String>>,
    news: Condvar,
}

impl Web {
    /// Serves what is in `folder` at the time of each request.
    pub fn of(folder: &Path) -> Self {
        Self::start(folder, None)
    }

    /// The same by TLS, as `localhost`, with a certificate of that authority.
    pub fn secure(folder: &Path, authority: &Authority) -> Self {
        Self::start(folder, Some(authority.server()))
    }

    fn start(folder: &Path, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(Served {
            folder: folder.to_owned(),
            manners: Mutex::default(),
            asked: Mutex::default(),
            news: Condvar::new(),
        });
        let own = served.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (served, tls) = (own.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(tls) => {
                        let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
                        served.answer(&mut stream);
                        stream.conn.send_close_notify();
                        stream.flush().unwrap_or_default();
                    }
                    None => served.answer(&mut { stream }),
                });
            }
        });
        Self { address, served }
    }

    /// The address of a path, for a server by TLS.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.address.port())
    }

    /// The paths that were asked for since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.served.asked.lock().unwrap())
    }

    /// Waits until somebody asks for a path.
    pub fn wait_for(&self, path: &str) {
        let asked = self.served.asked.lock().unwrap();
        let not_yet = |asked: &mut Vec<String>| !asked.iter().any(|one| one == path);
        let (_asked, late) =
            self.served.news.wait_timeout_while(asked, Duration::from_secs(120), not_yet).unwrap();
        assert!(!late.timed_out(), "nobody asked for {path}");
    }

    /// Sends whoever asks for `path` to another address.
    pub fn redirect(&self, path: &str, to: &str) {
        self.behave(path, Manner::Redirect(to.to_owned()));
    }

    /// Breaks off in the midst of `path`.
    pub fn break_off(&self, path: &str) {
        self.behave(path, Manner::Half);
    }

    /// Answers the next so many requests for `path` with an error of its own.
    pub fn be_unwell(&self, path: &str, times: usize) {
        self.behave(path, Manner::Unwell(times));
    }

    /// Falls silent in the midst of `path`.
    pub fn stall(&self, path: &str) {
        self.behave(path, Manner::Stall);
    }

    /// Answers `path` as it should again.
    pub fn mend(&self, path: &str) {
        self.served.manners.lock().unwrap().remove(path);
    }

    fn behave(&self, path: &str, manner: Manner) {
        self.served.manners.lock().unwrap().insert(path.to_owned(), manner);
    }
}

impl Served {
    fn answer(&self, stream: &mut (impl Read + Write)) {
        let mut lines = BufReader::new(&mut *stream).lines();
        // A client may go away without a word.
        let Some(Ok(request)) = lines.next() else { return };
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        drop(lines);
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let shut = self.folder.join(SHUT).exists();
        let (status, content) = match std::fs::read(self.folder.join(&path)) {
            _ if shut => ("503 Service Unavailable", Vec::new()),
            Ok(content) => ("200 OK", content),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let mut manners = self.manners.lock().unwrap();
        let (mut head, mut sent, mut stays) = (status.to_owned(), content.as_slice(), false);
        match manners.get_mut(&path) {
            Some(Manner::Redirect(to)) => head = format!("302 Found\r\nLocation: {to}"),
            Some(Manner::Half) => sent = &content[..content.len() / 2],
            Some(Manner::Unwell(times)) if *times > 0 => {
                *times -= 1;
                (head, sent) = ("500 Internal Server Error".to_owned(), &[]);
            }
            Some(Manner::Stall) => (sent, stays) = (&content[..content.len() / 2], true),
            Some(Manner::Unwell(_)) | None => {}
        }
        drop(manners);
        // Before the answer: whoever has that may look here at once.
        self.asked.lock().unwrap().push(path);
        self.news.notify_all();
        let length = if head.starts_with("500") { 0 } else { content.len() };
        head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let told = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
        told.and_then(|()| stream.flush()).unwrap_or_default();
        if stays {
            // Returns when the client leaves.
            stream.read(&mut [0]).unwrap_or_default();
        }
    }
}
