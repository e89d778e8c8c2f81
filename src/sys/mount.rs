//! The mount calls that work on descriptors (Linux 5.2; `mount_setattr` 5.12): a mount is made detached,
//! filled, and only then attached to a place that was opened before, so that no path is walked twice.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;

/// `MOUNT_ATTR_RDONLY`.
pub const RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub const NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const NODEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub const NOEXEC: u64 = 0x8;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// Makes a new filesystem of `kind` with `options` (one with an empty value is a flag) and gives its mount, attached nowhere, with `attributes`.
pub fn new_filesystem(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> nix::Result<OwnedFd> {
    // SAFETY: the string lives through the call; a descriptor is returned that nobody else owns.
    let context = unsafe { owned(libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC)) }?;
    for (key, value) in options {
        let (command, value) = match value.is_empty() {
            true => (FSCONFIG_SET_FLAG, std::ptr::null()),
            false => (FSCONFIG_SET_STRING, value.as_ptr()),
        };
        // SAFETY: both strings live through the call; a flag has no value.
        let status = unsafe {
            libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), value, 0)
        };
        Errno::result(status)?;
    }
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    let status =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0) };
    Errno::result(status)?;
    // SAFETY: plain numbers; a descriptor is returned that nobody else owns.
    unsafe { owned(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes)) }
}

/// A copy of the mount at an open file or folder (`O_PATH` will do), attached nowhere; with all mounts beneath
/// it when `recursive`.
pub fn clone_mount(place: BorrowedFd<'_>, recursive: bool) -> nix::Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the empty path is a constant; a descriptor is returned that nobody else owns.
    unsafe { owned(libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags)) }
}

/// Attaches a detached mount at an open place (a symlink opened with `O_PATH | O_NOFOLLOW` too).
pub fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the empty paths are constants.
    let status = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            place.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(status).map(drop)
}

/// Adds `attributes` to a mount; to all mounts beneath it too when `recursive`.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> nix::Result<()> {
    #[repr(C)]
    struct MountAttr {
        attr_set: u64,
        attr_clr: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let wanted = MountAttr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the structure is the kernel's first version of it, and its size is told.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const wanted,
            std::mem::size_of::<MountAttr>(),
        )
    };
    Errno::result(status).map(drop)
}

/// Whether this kernel has `mount_setattr`. Changes nothing.
pub fn can_set_attributes() -> bool {
    // SAFETY: no structure is read, since its size is told as 0, which is refused.
    let status = unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, 0usize, 0) };
    Errno::result(status) != Err(Errno::ENOSYS)
}

/// # Safety
/// `status` is a system call's answer that is a new descriptor owned by nobody, or -1.
unsafe fn owned(status: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(status)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: by this function's contract.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
