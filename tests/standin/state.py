"""What there is in the account: volumes, snapshots, images, the builder instance; by Region."""

import contextlib
import os
import secrets
import subprocess
import threading
import time
from dataclasses import dataclass, field

from .clock import Clock
from .devices import Attached, Devices
from .faults import Faults
from .pool import Pool
from .record import Requests

GIB = 1 << 30


@dataclass
class Settings:
    """What the stand-in is started with. Latencies are in seconds."""

    folder: str
    xen: bool = False
    region: str = "eu-west-1"
    zone: str = "eu-west-1b"
    account: str = "123456789012"
    instance_id: str = "i-0b1d0c2e3f4a56789"
    # Instances that were the builder before: of their attachments EC2 still knows.
    instances: set = field(default_factory=set)
    instance_type: str = "m7i.large"
    arch: str = "x86_64"
    role: str = "builder"
    # The longest that a new id stays unknown to other calls, for those that meet no `invisible` fault.
    consistency: float = 0.0
    latencies: dict = field(
        default_factory=lambda: {"create-volume": 0.02, "attach": 0.02, "detach": 0.02, "delete-volume": 0.0,
                                 "snapshot": 0.05, "image": 0.02, "copy": 0.05}
    )
    # Access key to secret and session token (None: a long-lived key).
    keys: dict = field(
        default_factory=lambda: {
            "AKIASTANDIN000000001": ("standin-secret", None),
            "ASIASTANDIN000000002": ("standin-role-secret", "standin-role-token"),
        }
    )


@dataclass
class Resource:
    id: str
    tags: dict = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    # Eventual consistency: unknown to every call until then, and to so many calls that name it.
    hidden_until: float = 0.0
    hidden_calls: int = 0

    def hidden(self) -> bool:
        return self.hidden_calls > 0 or time.monotonic() < self.hidden_until


@dataclass
class Attachment:
    instance: str
    device: str
    attached: Attached
    state: str = "attaching"
    since: float = field(default_factory=time.time)
    stuck: bool = False


@dataclass
class Volume(Resource):
    size: int = 0  # GiB
    zone: str = ""
    type: str = "gp2"
    iops: int | None = None
    throughput: int | None = None
    initialization_rate: int | None = None
    snapshot: str = ""
    encrypted: bool = False
    kms_key: str | None = None
    state: str = "creating"
    attachment: Attachment | None = None
    token: str | None = None
    asked: dict = field(default_factory=dict)
    file: str = ""


@dataclass
class Snapshot(Resource):
    owner: str = ""
    volume: str = "vol-ffffffff"
    size: int = 0  # GiB
    description: str = ""
    state: str = "pending"
    duration: float = 0.0  # seconds until it is complete
    completed: float | None = None
    encrypted: bool = False
    kms_key: str | None = None
    public: bool = False
    permissions: list = field(default_factory=list)
    platform: tuple = ("Linux/UNIX", "RunInstances")
    file: str = ""
    own_file: bool = True

    def progress(self) -> str:
        if self.state != "pending":
            return "100%" if self.state == "completed" else "0%"
        return f"{min(99, int(100 * (time.time() - self.created) / (self.duration or 1)))}%"


@dataclass
class Image(Resource):
    """An image. `about` holds what DescribeImages says of it, by the model's member names."""

    owner: str = ""
    name: str = ""
    state: str = "pending"
    public: bool = False
    about: dict = field(default_factory=dict)
    mappings: list = field(default_factory=list)
    permissions: list = field(default_factory=list)
    deprecated: float | None = None
    uefi_data: str | None = None
    # What an image is a copy of: id and Region.
    source: tuple | None = None
    # `disabled`, `enabled-without-cooldown`, `enabled-with-cooldown`.
    protection: str = "disabled"
    # Protection with a cool-down holds for a day after it was taken away.
    protected_until: float = 0.0

    def snapshots(self) -> list[str]:
        return [each["Ebs"]["SnapshotId"] for each in self.mappings if "SnapshotId" in each.get("Ebs", {})]


class Region:
    def __init__(self, name: str):
        self.name = name
        self.volumes: dict[str, Volume] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.images: dict[str, Image] = {}
        self.deregistered: set[str] = set()
        self.parameters: dict[str, str] = {}
        # Each version of each, and those that other accounts share: see actions/parameters.py.
        self.parameter_versions: dict[str, list[dict]] = {}
        self.shared_parameters: dict[tuple[str, str], dict] = {}
        self.parameters_about: dict[str, dict] = {}
        self.copy_tokens: dict[str, tuple] = {}
        # What refers to images, see actions/users.py.
        self.instances: list[dict] = []
        self.templates: list[dict] = []
        self.launch_configurations: list[dict] = []
        self.groups: list[dict] = []
        self.fleets: list[dict] = []
        self.spot_fleets: list[dict] = []
        self.spot_requests: list[dict] = []

    def resources(self) -> list[Resource]:
        return [*self.volumes.values(), *self.snapshots.values(), *self.images.values()]


class State:
    """Everything, under one lock. An action runs with it held, and lets go of it while it copies a disk."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.lock = threading.Lock()
        self.clock = Clock()
        self.faults = Faults()
        self.requests = Requests()
        self.devices = Devices(settings.xen)
        self.regions: dict[str, Region] = {}
        # S3's, of all Regions: see s3.py.
        self.buckets: dict = {}
        self.instance_launched = time.time() - 3600
        self._made_folder = not os.path.isdir(settings.folder)
        os.makedirs(settings.folder, exist_ok=True)
        self._folder = os.path.realpath(settings.folder)
        self.pool = Pool(self._folder)
        self._copying = threading.Lock()
        self._files: set[str] = set()

    def region(self, name: str) -> Region:
        return self.regions.setdefault(name, Region(name))

    @contextlib.contextmanager
    def let_go(self):
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    def latency(self, name: str) -> float:
        return self.settings.latencies[name]

    def file(self, name: str) -> str:
        path = os.path.join(self.pool.folder, name)
        self._files.add(path)
        return path

    def copy(self, snapshot, target: str) -> None:
        """Copies a snapshot's content. One that lies outside the pool is brought into it the first time, so that
        its further copies share blocks. Not under the lock."""
        with self._copying:
            if self.pool.shares_blocks and not snapshot.own_file:
                inside = self.file(f"{snapshot.id}.raw")
                copy_disk(snapshot.file, inside)
                snapshot.file, snapshot.own_file = inside, True
        copy_disk(snapshot.file, target)

    def remove_file(self, path: str) -> None:
        self._files.discard(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def close(self) -> list[str]:
        """Gives back every device and file; says which devices were still in use."""
        self.clock.end()
        self.faults.end()
        left = self.devices.detach_all(patience=5)
        for path in list(self._files):
            self.remove_file(path)
        self.pool.close()
        if self._made_folder:
            with contextlib.suppress(OSError):
                os.rmdir(self._folder)
        return left


def new_id(kind: str) -> str:
    """An id of today's length; random, so that two stand-ins on one host share none."""
    return f"{kind}-0{secrets.token_hex(8)}"


def tag_set(tags: dict) -> list[dict]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def copy_disk(source: str, target: str) -> None:
    """A copy that shares blocks where the filesystem can, and keeps holes where it cannot."""
    command = ["cp", "--reflink=auto", "--sparse=auto", "--", source, target]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
