"""Attached volumes on this host: a loop device each, with the names that udev gives it on an instance.

Nitro: `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123…` and `…-partN`. Xen: `/dev/xvdf`, `/dev/xvdfN`
for a requested `/dev/sdf`. Partitions that appear or go while a volume is attached get and lose their
links as they do with udev."""

import contextlib
import os
import re
import socket
import threading
import time

from . import loop

BY_ID = "/dev/disk/by-id"
NITRO_PREFIX = "nvme-Amazon_Elastic_Block_Store_"
NETLINK_KOBJECT_UEVENT = 15


class Taken(Exception):
    """Another volume on this host has the device name."""


class Attached:
    """One attached volume. `descriptor` is None once the kernel was asked to let the device go."""

    def __init__(self, file: str, name: str, reservation):
        self.file = file
        self.name = name  # of the whole device's link
        self.reservation = reservation
        self.number = None
        self.descriptor = None

    @property
    def device(self) -> str | None:
        return None if self.number is None else f"/dev/loop{self.number}"

    def link(self, partition: int | None) -> str:
        if partition is None:
            return self.name
        return f"{self.name}-part{partition}" if self.name.startswith(BY_ID) else f"{self.name}{partition}"


class Devices:
    """All attached volumes of this stand-in."""

    def __init__(self, xen: bool):
        self.xen = xen
        self._lock = threading.Lock()
        self._attached: list[Attached] = []
        self._made_folders: list[str] = []
        sweep()
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)
        self._events.bind((0, 1))
        threading.Thread(target=self._follow_events, name="links", daemon=True).start()

    def reserve(self, volume_id: str, file: str, device: str) -> Attached:
        """Takes the name that the device will have; raises [`Taken`] when another stand-in on this host has it."""
        if not self.xen:
            return Attached(file, f"{BY_ID}/{NITRO_PREFIX}{volume_id.replace('-', '')}", None)
        name = "/dev/xvd" + re.sub(r"^(/dev/)?(sd|xvd)", "", device)
        # An abstract socket's name: one holder at a time on this host, and free when its process ends.
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0standin{name}")
        except OSError:
            reservation.close()
            raise Taken(name) from None
        if os.path.lexists(name):
            reservation.close()
            raise Taken(name)
        return Attached(file, name, reservation)

    def attach(self, attached: Attached) -> None:
        number, descriptor = loop.bind(attached.file)
        with self._lock:
            attached.number, attached.descriptor = number, descriptor
            self._attached.append(attached)
        loop.add_partitions(number)
        with self._lock:
            self._match_links(attached)

    def detach(self, attached: Attached) -> bool:
        """Whether the device is gone. It is not while something has it or one of its partitions open; ask again later."""
        with self._lock:
            if attached.descriptor is not None:
                gone = [loop.delete_partition(attached.descriptor, each) for each in loop.partitions(attached.number)]
                if not all(gone):
                    self._match_links(attached)
                    return False
                self._let_go(attached)
            if attached.number is not None and loop.is_bound(attached.number, attached.file):
                return False
            if attached in self._attached:
                self._attached.remove(attached)
            self._free(attached)
            return True

    def detach_all(self, patience: float) -> list[str]:
        """Detaches everything; what was still in use after so many seconds is returned, and goes by
        autoclear when its last user ends."""
        deadline = time.monotonic() + patience
        left = list(self._attached)
        while left and time.monotonic() < deadline:
            left = [each for each in left if not self.detach(each)]
            if left:
                time.sleep(0.02)
        with self._lock:
            for each in left:
                if each.descriptor is not None:
                    self._let_go(each)
                self._free(each)
            for folder in reversed(self._made_folders):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return [f"{each.device} ({each.name})" for each in left]

    def _let_go(self, attached: Attached) -> None:
        for link in self._links_of(attached):
            with contextlib.suppress(OSError):
                os.unlink(link)
        os.close(attached.descriptor)
        attached.descriptor = None

    def _free(self, attached: Attached) -> None:
        if attached.reservation is not None:
            attached.reservation.close()

    def _links_of(self, attached: Attached) -> list[str]:
        folder, base = os.path.split(attached.name)
        pattern = re.compile(re.escape(base) + (r"(-part\d+)?" if folder == BY_ID else r"\d*"))
        return [f"{folder}/{each}" for each in _entries(folder) if pattern.fullmatch(each)]

    def _match_links(self, attached: Attached) -> None:
        """Makes the links be those of the device and its partitions as they are now. Under the lock."""
        if attached.descriptor is None:
            return
        wanted = {attached.link(None): attached.device}
        for partition in loop.partitions(attached.number):
            wanted[attached.link(partition)] = f"{attached.device}p{partition}"
        for link in set(self._links_of(attached)) - set(wanted):
            with contextlib.suppress(OSError):
                os.unlink(link)
        for link, target in wanted.items():
            if not os.path.lexists(link):
                self._make_link(target, link)

    def _make_link(self, target: str, link: str) -> None:
        folder = os.path.dirname(link)
        for _ in range(100):  # another stand-in may remove the folder in between
            for each in (os.path.dirname(folder), folder):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(each)
                    self._made_folders.append(each)
            with contextlib.suppress(FileNotFoundError):
                return os.symlink(os.path.relpath(target, folder), link)
        raise OSError(f"{folder} does not stay")

    def _follow_events(self) -> None:
        while True:
            try:
                event = self._events.recv(1 << 16)
            except OSError:
                continue
            found = re.search(rb"\0DEVNAME=loop(\d+)p\d+\0", event)
            if found:
                with self._lock:
                    for each in self._attached:
                        if each.number == int(found[1]):
                            self._match_links(each)


def sweep() -> None:
    """Removes the links that a stand-in that was killed left: their loop devices are free again, or another's."""
    for folder, pattern in ((BY_ID, NITRO_PREFIX + r"vol(?P<volume>[0-9a-f]+)(-part\d+)?"), ("/dev", r"xvd[a-z]+\d*")):
        swept = False
        for name in _entries(folder):
            link = f"{folder}/{name}"
            ours = re.fullmatch(pattern, name)
            if not ours or not os.path.islink(link):
                continue
            target = os.path.normpath(os.path.join(folder, os.readlink(link)))
            device = re.fullmatch(r"/dev/loop(\d+)(p\d+)?", target)
            if not device:
                continue
            volume = ours.groupdict().get("volume") or "[0-9a-f]+"
            bound = os.path.basename(loop.backing_file(int(device[1])) or "")
            if not re.fullmatch(rf"vol-{volume}\.raw", bound):
                swept = True
                with contextlib.suppress(OSError):
                    os.unlink(link)
        if swept and folder == BY_ID:
            with contextlib.suppress(OSError):
                os.rmdir(BY_ID)
                os.rmdir(os.path.dirname(BY_ID))


def _entries(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []
