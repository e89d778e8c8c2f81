"""Where disks are kept: an XFS of their own, so that a copy shares its blocks and costs nothing.

The filesystem lies in a sparse file without a name, on a loop device with autoclear, and is mounted nowhere: a
descriptor holds the mount, files are reached through it by way of /proc, and all of it is gone with this process,
however that ends."""

import contextlib
import ctypes
import os
import subprocess

from . import loop

SIZE = 256 << 30
# System call numbers, the same on every architecture, and constants of linux/mount.h.
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
FSOPEN_CLOEXEC = FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 1, 6


class Pool:
    """`folder` is where files are made: within the filesystem, or the given folder where there can be none."""

    def __init__(self, folder: str):
        self._mount = None
        self.folder = folder
        image = os.path.join(folder, "pool.xfs")
        try:
            self._mount = _mount_new(image)
            self.folder = f"/proc/{os.getpid()}/fd/{self._mount}"
        except (OSError, subprocess.SubprocessError):
            pass  # no mkfs.xfs, or a kernel without XFS: copies are then real
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(image)

    @property
    def shares_blocks(self) -> bool:
        return self._mount is not None

    def close(self) -> None:
        if self._mount is not None:
            os.close(self._mount)
            self._mount = None


def _mount_new(image: str) -> int:
    with open(image, "wb") as file:
        file.truncate(SIZE)
    make = ["mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1", "-l", "size=64m", image]
    subprocess.run(make, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    number, device = loop.bind(image)
    try:
        context = _call(FSOPEN, b"xfs", FSOPEN_CLOEXEC)
        try:
            _call(FSCONFIG, context, FSCONFIG_SET_STRING, b"source", f"/dev/loop{number}".encode(), 0)
            _call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
            return _call(FSMOUNT, context, FSMOUNT_CLOEXEC, 0)
        finally:
            os.close(context)
    finally:
        os.close(device)


def _call(number: int, *arguments) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
