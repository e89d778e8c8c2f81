//! Sockets: descriptors passed over a unix socket, the loopback interface, and asking whether an address may
//! be reached.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;

/// Room for the control message of one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends `data` (at least one byte) and, with it, a descriptor. Gives how many bytes were sent.
pub fn send_with_fd(socket: BorrowedFd<'_>, data: &[u8], fd: Option<BorrowedFd<'_>>) -> nix::Result<usize> {
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let mut control = Control([0; 64]);
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        // SAFETY: `control` is larger than CMSG_SPACE of one int and aligned, so that the first header and
        // its data lie within it.
        unsafe {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if header.is_null() {
                return Err(Errno::EINVAL);
            }
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(fd.as_raw_fd());
        }
    }
    // SAFETY: everything that the message points to lives through the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    Errno::result(sent).map(|count| usize::try_from(count).unwrap_or(0))
}

/// Receives into `data`, with a descriptor if one was sent along. 0 bytes: the other end is closed.
pub fn receive_with_fd(socket: BorrowedFd<'_>, data: &mut [u8]) -> nix::Result<(usize, Option<OwnedFd>)> {
    let mut iov = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    let mut control = Control([0; 64]);
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // Room for one descriptor alone: more than one is never sent, and never accepted.
    // SAFETY: a computation.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    let received = loop {
        // SAFETY: everything that the message points to lives through the call.
        let status = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match Errno::result(status) {
            Err(Errno::EINTR) => {}
            other => break usize::try_from(other?).unwrap_or(0),
        }
    };
    // SAFETY: the kernel filled `control` and its length; a header of SCM_RIGHTS with this length holds one
    // descriptor, which is ours now.
    let fd = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize == libc::CMSG_LEN(4) as usize
        {
            let fd = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
            Some(OwnedFd::from_raw_fd(fd))
        } else {
            None
        }
    };
    Ok((received, fd))
}

/// Sets the loopback interface of this network namespace up.
pub fn loopback_up() -> nix::Result<()> {
    let socket = udp_socket(libc::AF_INET)?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(1);
    // SAFETY: the call reads the structure.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(status).map(drop)
}

/// Connects a UDP socket, which sends nothing: tells whether the address may be reached as far as policies of
/// this host go (`EPERM` where one refuses).
pub fn udp_connect(address: SocketAddr) -> nix::Result<()> {
    let socket = udp_socket(if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 })?;
    let status = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: all-zero is a valid sockaddr_in.
            let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            let len = std::mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
            // SAFETY: the address and its length belong together.
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), len) }
        }
        SocketAddr::V6(v6) => {
            // SAFETY: all-zero is a valid sockaddr_in6.
            let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            let len = std::mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            // SAFETY: the address and its length belong together.
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), len) }
        }
    };
    Errno::result(status).map(drop)
}

fn udp_socket(family: libc::c_int) -> nix::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = Errno::result(unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
