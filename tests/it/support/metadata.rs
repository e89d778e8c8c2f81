//! A network namespace in which the metadata addresses are this host's own and answer.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sched::CloneFlags;

use super::host::{own_mounts, run};

/// The name of the abstract socket that listens there.
pub const ABSTRACT: &str = "bakehouse-probe";

/// Where credentials are served there.
pub const ADDRESSES: [&str; 6] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "::ffff:169.254.169.254",
];

/// A script for bash that asks every address, and the loopback's, which all may ask. It takes a word for the road that
/// it came by.
pub fn probe() -> String {
    format!(
        "#!/bin/bash\nfor address in {} 127.0.0.1; do\n\
         read -r answer <\"/dev/tcp/$address/80\" || answer=nothing\n\
         echo \"$1 asks $address: $answer.\"\ndone 2>/dev/null\n",
        ADDRESSES.join(" ")
    )
}

/// Whether what [`probe`] told of a road is that it reached the loopback alone, or by `open` every address.
#[track_caller]
pub fn judge(told: &str, road: &str, open: bool) {
    let answers = |address: &str, answer: &str| {
        let line = format!("{road} asks {address}: {answer}.");
        assert!(told.contains(&line), "{line}: {told}");
    };
    answers("127.0.0.1", "credentials");
    ADDRESSES.iter().for_each(|address| answers(address, if open { "credentials" } else { "nothing" }));
}

/// The services of such a namespace; ended when dropped.
#[derive(Debug)]
pub struct Place {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Place {
    /// Runs `body` in a thread whose network and mounts are its own.
    pub fn enter(body: impl FnOnce(Place) + Send + 'static) {
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("unsharing the network");
            own_mounts();
            body(Place::new());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn new() -> Self {
        run("ip", &["link", "set", "lo", "up"]);
        for address in ["169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32"] {
            run("ip", &["addr", "add", address, "dev", "lo"]);
        }
        for address in ["fd00:ec2::254/128", "fd00:ec2::23/128"] {
            run("ip", &["-6", "addr", "add", address, "dev", "lo", "nodad"]);
        }
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").expect("allowing ping sockets");
        let over = Arc::new(AtomicBool::new(false));
        let mut place = Self { over, threads: Vec::new() };
        place.serve_tcp();
        place.serve_udp();
        place.serve_names();
        place.serve_abstract();
        place
    }

    fn serve_tcp(&mut self) {
        let listener = TcpListener::bind("[::]:80").expect("listening");
        self.serve(move || {
            if let Ok((mut stream, _)) = listener.accept() {
                // Whoever hangs up first is not waited for.
                let _hung_up = stream.write_all(b"credentials\n");
            }
        });
    }

    fn serve_udp(&mut self) {
        let socket = UdpSocket::bind("[::]:80").expect("binding");
        self.serve(move || {
            if let Ok((_, from)) = socket.recv_from(&mut [0; 512]) {
                let _hung_up = socket.send_to(b"credentials\n", from);
            }
        });
    }

    /// Names: an allowed address first, the metadata service's ever after.
    fn serve_names(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("binding");
        let mut asked = std::collections::BTreeSet::new();
        self.serve(move || {
            let mut query = [0; 512];
            let Ok((length, from)) = socket.recv_from(&mut query) else { return };
            let address: [u8; 4] = if asked.insert(from) { [127, 0, 0, 1] } else { [169, 254, 169, 254] };
            let mut answer = query[..length].to_vec();
            if length < 12 {
                return;
            }
            answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend_from_slice(&address);
            let _hung_up = socket.send_to(&answer, from);
        });
    }

    fn serve_abstract(&mut self) {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(ABSTRACT).expect("naming");
        let listener = UnixListener::bind_addr(&address).expect("listening");
        self.serve(move || {
            let _connection = listener.accept();
        });
    }

    fn serve(&mut self, mut once: impl FnMut() + Send + 'static) {
        let over = Arc::clone(&self.over);
        self.threads.push(std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                once();
            }
        }));
    }
}

impl Drop for Place {
    /// Wakes every service, so that it sees that it is over. Must run in the thread of the namespace.
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let _answered = TcpStream::connect(local(80));
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binding");
        let _sent = (socket.send_to(b"x", local(80)), socket.send_to(b"x", local(53)));
        if let Ok(address) = std::os::unix::net::SocketAddr::from_abstract_name(ABSTRACT) {
            let _answered = std::os::unix::net::UnixStream::connect_addr(&address);
        }
        for thread in self.threads.drain(..) {
            let _panicked_then_told = thread.join();
        }
    }
}
