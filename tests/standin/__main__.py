"""Starts the stand-in, says where it is, and gives everything back when it is told to stop."""

import argparse
import json
import os
import select
import signal
import sys
import threading

from . import seed
from .imds import Metadata
from .model import Models
from .server import Endpoint, Server
from .state import Settings, State


def arguments():
    parser = argparse.ArgumentParser(prog="standin", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT", help="port 0: a free one")
    parser.add_argument("--imds-listen", default="127.0.0.1:0", metavar="ADDRESS:PORT")
    parser.add_argument("--state", required=True, metavar="FOLDER", help="where the disks of volumes and snapshots are kept")
    naming = parser.add_mutually_exclusive_group()
    naming.add_argument("--nitro", action="store_true", help="names devices as Nitro instances do (the default)")
    naming.add_argument("--xen", action="store_true", help="names devices as Xen instances do")
    parser.add_argument("--seed", action="append", default=[], metavar="FILE", help="JSON: an image to add, or a list of them")
    parser.add_argument("--latency", action="append", default=[], metavar="NAME=SECONDS")
    parser.add_argument("--region")
    parser.add_argument("--zone")
    parser.add_argument("--arch")
    parser.add_argument("--no-stdin", action="store_true", help="do not stop when standard input is closed")
    return parser.parse_args()


def settings(given) -> Settings:
    made = Settings(folder=given.state, xen=given.xen)
    if given.region:
        made.region, made.zone = given.region, f"{given.region}b"
    made.zone = given.zone or made.zone
    made.arch = given.arch or made.arch
    for each in given.latency:
        name, _, seconds = each.partition("=")
        if name not in made.latencies:
            raise SystemExit(f"no latency {name}: there are {', '.join(made.latencies)}")
        made.latencies[name] = float(seconds)
    return made


def watch(stop: threading.Event, with_stdin: bool) -> None:
    """Stops when standard input is closed or the process that started this one ends. (A parent-death signal
    would come when the starting *thread* ends, so the process is watched instead.)"""
    poll = select.poll()
    parent = os.getppid()
    try:
        poll.register(os.pidfd_open(parent), select.POLLIN)
    except OSError:
        stop.set()
    if with_stdin:
        poll.register(0, select.POLLIN | select.POLLHUP)
    while os.getppid() == parent:
        for descriptor, _ in poll.poll(1000):
            if descriptor != 0 or not os.read(0, 4096):
                stop.set()
                return
    stop.set()


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> int:
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, lambda *_: stop.set())
    given = arguments()
    threading.Thread(target=watch, args=(stop, not given.no_stdin), daemon=True).start()
    models = Models()
    models.service("ec2")
    state = State(settings(given))
    try:
        for path in given.seed:
            with open(path) as file:
                documents = json.load(file)
            for document in documents if isinstance(documents, list) else [documents]:
                seed.image(state, document)
        endpoint = Server(address(given.listen), Endpoint, state, models)
        metadata = Server(address(given.imds_listen), Metadata, state, models)
        metadata.tokens = {}
        for each in (endpoint, metadata):
            threading.Thread(target=each.serve_forever, args=(0.1,), daemon=True).start()
        print(json.dumps({"endpoint": endpoint.url, "imds": metadata.url, "pid": os.getpid()}), flush=True)
        while not stop.wait(3600):
            pass
    finally:
        left = state.close()
    for each in left:
        print(f"still in use: {each}", file=sys.stderr, flush=True)
    return 1 if left else 0


if __name__ == "__main__":
    # Threads that wait for a client end with the process.
    code = main()
    sys.stdout.flush()
    os._exit(code)
