//! `bpf(2)`: loading a program and attaching it to a cgroup.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;

/// One instruction, as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source in the high four.
    pub registers: u8,
    /// Offset of a jump or of memory.
    pub offset: i16,
    /// The constant.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
/// Several programs may be attached to one cgroup, and those of its parents run too.
const F_ALLOW_MULTI: u32 = 2;

/// The head of the kernel's `union bpf_attr` for BPF_PROG_LOAD, to `expected_attach_type`.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads a program for the given attach type. The kernel's verifier writes what it objects to into the error.
pub fn load(
    program: &[Instruction],
    kind: u32,
    attach_type: u32,
    license: &CStr,
) -> std::result::Result<OwnedFd, (Errno, String)> {
    let mut log = vec![0u8; 16 * 1024];
    let attempt = |log: Option<&mut Vec<u8>>| {
        let (log_level, log_size, log_buf) = match log {
            Some(log) => (1, u32::try_from(log.len()).unwrap_or(0), log.as_mut_ptr() as u64),
            None => (0, 0, 0),
        };
        let attributes = Load {
            prog_type: kind,
            insn_cnt: u32::try_from(program.len()).unwrap_or(0),
            insns: program.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level,
            log_size,
            log_buf,
            kern_version: 0,
            prog_flags: 0,
            prog_name: *b"bakehouse\0\0\0\0\0\0\0",
            prog_ifindex: 0,
            expected_attach_type: attach_type,
        };
        // SAFETY: the structure and its size belong together; all it points to lives through the call.
        let status = unsafe {
            libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, std::mem::size_of::<Load>())
        };
        Errno::result(status)
    };
    match attempt(None) {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) => i32::try_from(fd)
            .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
            .map_err(|_| (Errno::EBADF, String::new())),
        Err(errno @ (Errno::EACCES | Errno::EINVAL)) => {
            if attempt(Some(&mut log)).is_ok() {
                log.fill(0);
            }
            let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
            Err((errno, String::from_utf8_lossy(text).trim().to_owned()))
        }
        Err(errno) => Err((errno, String::new())),
    }
}

/// Attaches a loaded program to an open cgroup folder; it stays for as long as the cgroup.
pub fn attach(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> nix::Result<()> {
    let raw = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::EBADF);
    let attributes = Attach {
        target_fd: raw(cgroup)?,
        attach_bpf_fd: raw(program)?,
        attach_type,
        attach_flags: F_ALLOW_MULTI,
    };
    // SAFETY: the structure and its size belong together.
    let status = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attributes, std::mem::size_of::<Attach>())
    };
    Errno::result(status).map(drop)
}
