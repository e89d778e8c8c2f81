//! System calls that no library here wraps: the one module that may hold `unsafe`.
#![expect(unsafe_code, reason = "raw ioctls; each block says why it is sound")]

pub mod bpf;
pub mod mount;
pub mod net;
pub mod process;
pub mod stdio;

use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;

// --- Block devices -------------------------------------------------------------------------------------
// Numbers and layouts are those of linux/loop.h, linux/blkpg.h, linux/fs.h and linux/nvme_ioctl.h; they are
// the same on x86_64 and arm64.

const LOOP_CTL_ADD: libc::Ioctl = 0x4C80;
const LOOP_CTL_REMOVE: libc::Ioctl = 0x4C81;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const BLKFLSBUF: libc::Ioctl = 0x1261;
const BLKPG: libc::Ioctl = 0x1269;
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;
const NVME_IOCTL_ADMIN_CMD: libc::Ioctl = 0xC048_4E41;

/// The loop device accepts no writes.
pub const LO_FLAGS_READ_ONLY: u32 = 1;
/// The loop device lets its file go when the last user closes it.
pub const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// The kernel reads the partition table, and drops the partitions when the file is let go.
pub const LO_FLAGS_PARTSCAN: u32 = 8;
/// The file is read and written past the page cache, where its filesystem can.
pub const LO_FLAGS_DIRECT_IO: u32 = 16;

#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo64 {
    fn zeroed() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

#[repr(C)]
struct BlkpgArg {
    op: libc::c_int,
    flags: libc::c_int,
    data_length: libc::c_int,
    data: *mut BlkpgPartition,
}

#[repr(C)]
#[derive(Default)]
struct NvmeAdminCommand {
    opcode: u8,
    flags: u8,
    reserved1: u16,
    namespace: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_length: u32,
    data_length: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// The number of a loop device that was free a moment ago: another process may take it first. `control` is
/// `/dev/loop-control`.
///
/// # Errors
/// The kernel's.
pub fn loop_free_number(control: BorrowedFd<'_>) -> nix::Result<u32> {
    // SAFETY: the request takes no argument; the descriptor lives as long as the borrow.
    let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
    u32::try_from(number).map_err(|_| Errno::ERANGE)
}

/// Makes one loop device more; its number, which no other process was told. `control` is `/dev/loop-control`.
///
/// # Errors
/// Those of the kernel: ENOMEM, or ENOTTY and EINVAL where it makes none on request.
pub fn loop_add(control: BorrowedFd<'_>) -> nix::Result<u32> {
    // SAFETY: the request takes a plain number (-1: the kernel chooses).
    let number =
        Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_ADD, -1_i32 as libc::c_long) })?;
    u32::try_from(number).map_err(|_| Errno::ERANGE)
}

/// Takes a loop device away that nobody uses. `control` is `/dev/loop-control`.
///
/// # Errors
/// EBUSY where somebody has it open or it has a file; ENODEV where it is gone; ENOTTY and EINVAL where the kernel
/// takes none away.
pub fn loop_remove(control: BorrowedFd<'_>, number: u32) -> nix::Result<()> {
    let number = libc::c_long::from(i32::try_from(number).map_err(|_| Errno::ERANGE)?);
    // SAFETY: the request takes a plain number.
    Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_REMOVE, number) }).map(drop)
}

/// Gives a loop device its file or block device, or a window of it (where it begins and how long it is, in bytes; a
/// length of 0 is up to the end), in one step (Linux 5.8), in blocks of 512 bytes: those of the disks that images are
/// made for. Left to itself the kernel (Linux 6.15) takes what direct I/O on the file's filesystem asks for, which
/// is 4096 for a file that shares blocks on XFS, and a partition table is then not found. Where both do not go
/// together, the kernel does without direct I/O.
///
/// # Errors
/// EBUSY where another process was faster; EINVAL or ENOTTY where the kernel does not know the request or a flag.
pub fn loop_configure(
    device: BorrowedFd<'_>,
    backing: BorrowedFd<'_>,
    flags: u32,
    (offset, size_limit): (u64, u64),
) -> nix::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let config = LoopConfig {
        fd,
        block_size: 512,
        info: LoopInfo64 { flags, offset, size_limit, ..LoopInfo64::zeroed() },
        reserved: [0; 8],
    };
    // SAFETY: `config` has the layout of struct loop_config and outlives the call, which only reads it.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop)
}

/// Makes a loop device let its file go: at once, or when its last user closes it.
///
/// # Errors
/// ENXIO where it has none.
pub fn loop_clear(device: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the request takes no argument.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD) }).map(drop)
}

/// The device number and inode of a loop device's file.
///
/// # Errors
/// ENXIO where it has none.
pub fn loop_backing(device: BorrowedFd<'_>) -> nix::Result<(u64, u64)> {
    let mut info = LoopInfo64::zeroed();
    // SAFETY: `info` has the layout of struct loop_info64 and outlives the call, which fills it.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) })?;
    Ok((info.device, info.inode))
}

fn blkpg(disk: BorrowedFd<'_>, op: libc::c_int, number: u32, start: u64, length: u64) -> nix::Result<()> {
    let mut partition = BlkpgPartition {
        start: i64::try_from(start).map_err(|_| Errno::EINVAL)?,
        length: i64::try_from(length).map_err(|_| Errno::EINVAL)?,
        number: libc::c_int::try_from(number).map_err(|_| Errno::EINVAL)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let data_length = libc::c_int::try_from(size_of::<BlkpgPartition>()).map_err(|_| Errno::EINVAL)?;
    let mut argument = BlkpgArg { op, flags: 0, data_length, data: &raw mut partition };
    // SAFETY: both structs have the kernel's layout and outlive the call.
    Errno::result(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &raw mut argument) }).map(drop)
}

/// Tells the kernel of a partition; `start` and `length` in bytes. The disk itself is not written.
///
/// # Errors
/// EBUSY where it overlaps one that the kernel knows.
pub fn partition_add(disk: BorrowedFd<'_>, number: u32, start: u64, length: u64) -> nix::Result<()> {
    blkpg(disk, 1, number, start, length)
}

/// Makes the kernel forget a partition.
///
/// # Errors
/// EBUSY while it is in use; ENXIO where the kernel knows none of that number.
pub fn partition_delete(disk: BorrowedFd<'_>, number: u32) -> nix::Result<()> {
    blkpg(disk, 2, number, 0, 0)
}

/// Tells the kernel of a partition's new length; it may be in use. `start` and `length` in bytes.
///
/// # Errors
/// EBUSY where it would overlap another; EINVAL where `start` differs from what the kernel knows.
pub fn partition_resize(disk: BorrowedFd<'_>, number: u32, start: u64, length: u64) -> nix::Result<()> {
    blkpg(disk, 3, number, start, length)
}

/// Writes out and drops what the kernel has buffered of a block device.
///
/// # Errors
/// The kernel's.
pub fn flush_buffers(device: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the request takes no argument.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), BLKFLSBUF, 0) }).map(drop)
}

/// The size of a block device in bytes.
///
/// # Errors
/// ENOTTY where it is not a block device.
pub fn device_size(device: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut size = 0_u64;
    // SAFETY: the call writes one u64 to `size`.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), BLKGETSIZE64, &raw mut size) })?;
    Ok(size)
}

/// What an NVMe controller says of itself: the 4096 bytes of Identify Controller (NVM Express base specification).
///
/// # Errors
/// ENOTTY where the device is not NVMe; EIO where the controller answered with an error.
pub fn nvme_identify_controller(device: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
    const IDENTIFY: u8 = 0x06;
    const CONTROLLER: u32 = 1;
    let mut data = vec![0_u8; 4096];
    let mut command = NvmeAdminCommand {
        opcode: IDENTIFY,
        address: data.as_mut_ptr() as u64,
        data_length: 4096,
        cdw10: CONTROLLER,
        ..NvmeAdminCommand::default()
    };
    // SAFETY: `command` has the layout of struct nvme_admin_cmd; the kernel writes at most `data_length`
    // bytes at `address`, which is `data`, alive until after the call.
    let status =
        Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), NVME_IOCTL_ADMIN_CMD, &raw mut command) })?;
    if status == 0 { Ok(data) } else { Err(Errno::EIO) }
}

// --- Copies of files ------------------------------------------------------------------------------------

/// Makes `target` share all blocks of `source` (FICLONE, ioctl_ficlone(2)): both on one filesystem that can.
///
/// # Errors
/// `EOPNOTSUPP`, `EXDEV` or `EINVAL` where the filesystem cannot share blocks.
pub fn clone_file(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: FICLONE takes two descriptors, which are open for the whole call, and no memory of ours.
    Errno::result(unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) }).map(drop)
}

/// Copies at most `length` bytes at one place of both files inside the kernel (copy_file_range(2)); how many.
///
/// # Errors
/// `EXDEV`, `EINVAL`, `EOPNOTSUPP` or `ENOSYS` where the filesystems cannot; `EOVERFLOW` for a place that no file has.
pub fn copy_file_range(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    offset: u64,
    length: u64,
) -> nix::Result<u64> {
    let (mut from_place, mut to_place) = (file_offset(offset)?, file_offset(offset)?);
    let length = usize::try_from(length).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: both descriptors are open, and both offsets live, for the whole call.
    let copied = Errno::result(unsafe {
        libc::copy_file_range(from.as_raw_fd(), &mut from_place, to.as_raw_fd(), &mut to_place, length, 0)
    })?;
    u64::try_from(copied).map_err(|_| Errno::EOVERFLOW)
}

/// Starts writing a range of a file's dirty pages to its disk and does not wait (sync_file_range(2)). Promises
/// nothing: only a later fsync does.
///
/// # Errors
/// `EIO` or `ENOSPC`; `EOVERFLOW` for a place that no file has.
pub fn begin_write_back(file: BorrowedFd<'_>, offset: u64, length: u64) -> nix::Result<()> {
    let (offset, length) = (file_offset(offset)?, file_offset(length)?);
    // SAFETY: the descriptor is open for the whole call; everything else is passed by value.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    Errno::result(result).map(drop)
}

fn file_offset(bytes: u64) -> nix::Result<i64> {
    i64::try_from(bytes).map_err(|_| Errno::EOVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(size_of::<BlkpgPartition>(), 152);
        assert_eq!(size_of::<BlkpgArg>(), 24);
        assert_eq!(size_of::<NvmeAdminCommand>(), 72);
    }
}
