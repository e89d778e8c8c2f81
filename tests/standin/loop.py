"""Loop devices by ioctl: bound with autoclear, so that the kernel lets go of one as soon as nobody has it
open, whatever became of this process. Numbers and layouts are those of linux/loop.h and linux/blkpg.h."""

import ctypes
import errno
import fcntl
import os
import random
import struct
import subprocess
import time

LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_AUTOCLEAR = 4
BLKPG = 0x1269
BLKPG_DEL_PARTITION = 2


def bind(file: str) -> tuple[int, int]:
    """Binds a free loop device to a file; its number and a descriptor that keeps it."""
    backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    # struct loop_config: the descriptor, the block size (0: the default), loop_info64, 64 bytes reserved.
    info = struct.pack(
        "=5Q4I64s64s32s2Q", *[0] * 8, LO_FLAGS_AUTOCLEAR, os.fsencode(file)[-63:], b"", b"", 0, 0
    )
    config = struct.pack("=II", backing, 0) + info + bytes(64)
    try:
        for attempt in range(400):
            # All who ask at once are told of the same one.
            time.sleep(random.uniform(0, min(0.05, attempt * 0.002)))
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            try:
                device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in (errno.EBUSY, errno.ENOENT, errno.ENXIO):
                    continue
                raise
            try:
                fcntl.ioctl(device, LOOP_CONFIGURE, config)
                return number, device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # busy: another process was quicker
                    raise
        raise OSError(errno.EBUSY, "no loop device is free")
    finally:
        os.close(control)
        os.close(backing)


def backing_file(number: int) -> str | None:
    try:
        with open(f"/sys/block/loop{number}/loop/backing_file") as link:
            return link.read().rstrip("\n").removesuffix(" (deleted)")
    except OSError:
        return None


def is_bound(number: int, file: str) -> bool:
    """Whether a device is bound to a file, told by its name: ids are never used twice."""
    return os.path.basename(backing_file(number) or "") == os.path.basename(file)


def partitions(number: int) -> list[int]:
    """The partition numbers that the kernel knows of."""
    name = f"loop{number}"
    try:
        entries = os.listdir(f"/sys/block/{name}")
    except OSError:
        return []
    return sorted(int(each[len(name) + 1 :]) for each in entries if each.startswith(f"{name}p"))


def add_partitions(number: int) -> None:
    """Reads the partition table in user space (not every kernel has the readers). None there is no error."""
    subprocess.run(["partx", "-a", f"/dev/loop{number}"], stdin=subprocess.DEVNULL, capture_output=True)


def delete_partition(device: int, partition: int) -> bool:
    """Whether the kernel forgot a partition; it does not while something has it open."""
    # struct blkpg_partition: start, length, number, two names of 64 bytes.
    data = ctypes.create_string_buffer(struct.pack("=qqi64s64s4x", 0, 0, partition, b"", b""))
    argument = struct.pack("@iiiP", BLKPG_DEL_PARTITION, 0, len(data), ctypes.addressof(data))
    try:
        fcntl.ioctl(device, BLKPG, argument)
    except OSError as error:
        return error.errno == errno.ENXIO
    return True
