//! Processes: fork of a single-threaded one, capabilities, filters, and what else the sandbox sets on itself.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid};

/// Forks. Only for processes with one thread (the sandbox's helpers); refused with `EINVAL` in others, since
/// the child could hold another thread's locks for ever.
pub fn fork() -> nix::Result<ForkResult> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads > 1 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: this is the process's only thread, so that the child's memory is consistent. (Where /proc is
    // not readable, the callers' word for it is taken: both are called before any thread is made.)
    unsafe { nix::unistd::fork() }
}

/// Has the program that `command` starts killed once the thread that starts it ends, which is to wait for it.
pub fn ends_with_caller(command: &mut Command) -> &mut Command {
    let parent = Pid::this();
    let tie = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have ended before that was asked for.
        if Pid::parent() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec there are two system calls, prctl and getppid, and nothing is allocated.
    unsafe { command.pre_exec(tie) }
}

/// Ends the process at once, running no destructor or exit handler: what a forked child does.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(status) }
}

/// A descriptor that becomes readable when the process ends.
pub fn pidfd(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until one of the descriptors is readable or hung up, at most `timeout` milliseconds (-1: for ever);
/// tells for each whether it is.
pub fn wait_readable<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: i32) -> nix::Result<[bool; N]> {
    wait_for(fds, libc::POLLIN, timeout)
}

/// Waits until one of the descriptors is hung up, whatever is to be read from it.
pub fn hung_up(fd: BorrowedFd<'_>, timeout: i32) -> nix::Result<bool> {
    wait_for([fd], 0, timeout).map(|[up]| up)
}

/// Waits until a file of the kernel's that tells of its changes (poll(2), `POLLPRI`) has changed since it was
/// read; tells whether it did within `timeout` milliseconds.
pub fn changed(fd: BorrowedFd<'_>, timeout: i32) -> nix::Result<bool> {
    wait_for([fd], libc::POLLPRI, timeout).map(|[changed]| changed)
}

/// Waits until `hangup` is hung up or `readable` is readable; tells which.
pub fn wait_hangup_or_readable(
    hangup: BorrowedFd<'_>,
    readable: BorrowedFd<'_>,
) -> nix::Result<(bool, bool)> {
    let mut polled = [
        libc::pollfd { fd: hangup.as_raw_fd(), events: 0, revents: 0 },
        libc::pollfd { fd: readable.as_raw_fd(), events: libc::POLLIN, revents: 0 },
    ];
    poll(&mut polled, -1)?;
    let [first, second] = polled;
    Ok((first.revents != 0, second.revents != 0))
}

fn wait_for<const N: usize>(fds: [BorrowedFd<'_>; N], events: i16, timeout: i32) -> nix::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
    poll(&mut polled, timeout)?;
    Ok(polled.map(|one| one.revents != 0))
}

fn poll(polled: &mut [libc::pollfd], timeout: i32) -> nix::Result<()> {
    let count = libc::nfds_t::try_from(polled.len()).map_err(|_| Errno::EINVAL)?;
    loop {
        // SAFETY: the array and its length belong together.
        match Errno::result(unsafe { libc::poll(polled.as_mut_ptr(), count, timeout) }) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> nix::Result<()> {
    // SAFETY: the callers own none of these descriptors (helpers at their very start).
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Marks every descriptor from `first` on to be closed by the next exec.
pub fn close_from_on_exec(first: u32) -> nix::Result<()> {
    // SAFETY: changes flags alone.
    let status = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(status).map(drop)
}

/// Joins a new, empty session keyring, so that the caller's is not inherited.
pub fn new_session_keyring() -> nix::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: no name is given.
    let status = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0usize) };
    Errno::result(status).map(drop)
}

/// Takes capability `number` out of the bounding set; `EINVAL` means that this kernel has no such capability.
pub fn drop_from_bounding_set(number: u32) -> nix::Result<()> {
    // SAFETY: plain numbers.
    let status = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    Errno::result(status).map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient_set() -> nix::Result<()> {
    // SAFETY: plain numbers.
    let status = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(status).map(drop)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// The calling thread's permitted capabilities, a bit each.
pub fn permitted_capabilities() -> nix::Result<u64> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 reads and writes two data elements.
    let status = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    Errno::result(status)?;
    let [low, high] = data;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// Sets permitted and effective capabilities to `set`, a bit each, and the inheritable ones to none.
pub fn set_capabilities(set: u64) -> nix::Result<()> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let half = |bits: u64| {
        let bits = u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        CapData { effective: bits, permitted: bits, inheritable: 0 }
    };
    let data = [half(set), half(set >> 32)];
    // SAFETY: version 3 reads two data elements.
    let status = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    Errno::result(status).map(drop)
}

/// Installs a seccomp filter on the calling thread, its children and what they execute.
pub fn install_filter(program: &[libc::sock_filter]) -> nix::Result<()> {
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` instructions, which live through the call, and writes none.
    let status =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) };
    Errno::result(status).map(drop)
}

/// The version of Landlock's interface, 0 where the kernel has none.
pub fn landlock_version() -> i64 {
    // SAFETY: this form only asks for the version.
    let status = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, 1) };
    Errno::result(status).unwrap_or(0)
}

/// Enters a Landlock domain whose only rule is that abstract unix sockets and processes outside it can be
/// neither connected to nor signalled (interface version 6, Linux 6.12).
pub fn landlock_scope() -> nix::Result<()> {
    #[repr(C)]
    struct Attributes {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    const ABSTRACT_UNIX_SOCKET: u64 = 1;
    const SIGNAL: u64 = 2;
    let attributes =
        Attributes { handled_access_fs: 0, handled_access_net: 0, scoped: ABSTRACT_UNIX_SOCKET | SIGNAL };
    // SAFETY: the structure and its size belong together.
    let fd = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            std::mem::size_of::<Attributes>(),
            0,
        )
    })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: a new descriptor that nobody else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: plain numbers.
    let status = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    Errno::result(status).map(drop)
}

/// Gives every signal its default action and blocks none: what a program expects to be started with.
pub fn default_signals() -> nix::Result<()> {
    for number in 1..=64 {
        // SAFETY: SIG_DFL is no function. Numbers that may not be set (SIGKILL, the C library's own) answer
        // with an error, which changes nothing.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

/// Has a write to a pipe that nobody reads answered with an error, and no signal. Programs that the standard
/// library starts have the default again.
pub fn ignore_broken_pipes() -> nix::Result<()> {
    // SAFETY: SIG_IGN is no function.
    match unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(Errno::last()),
        _ => Ok(()),
    }
}

/// Makes the terminal the controlling one of this process, a session's leader.
pub fn take_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: a plain number.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Copies the size of one terminal to another.
pub fn copy_window_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call fills the structure.
    Errno::result(unsafe { libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    // SAFETY: the call reads the structure.
    Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}
