//! Whether standard output was open when this process began.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether this process was started with its standard output closed. Rust's runtime opens /dev/null in its place
/// before `main`, so that what is written there is lost without an error.
pub fn stdout_was_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Runs before the runtime's own start, as all of `.init_array` does.
#[used]
// SAFETY: the section holds pointers to functions of this kind, which the C library calls one by one before main.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: asks for the flags of a descriptor that may not be there; nothing is read or written.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    CLOSED.store(flags == -1, Ordering::Relaxed);
}
