"""Starts a stand-in for a Python test, and a boto3 client that checks every answer it gets."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import xml.etree.ElementTree as ElementTree

import boto3
import botocore.config

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KEYS = {"aws_access_key_id": "AKIASTANDIN000000001", "aws_secret_access_key": "standin-secret"}
# One for all: it keeps the service models that it read.
SESSION = boto3.session.Session()
INSTANCE = "i-0b1d0c2e3f4a56789"
ZONE = "eu-west-1b"


class Standin:
    def __init__(self, *options: str):
        self.folder = tempfile.mkdtemp(prefix="standin-")
        command = [sys.executable, "-m", "standin", "--state", f"{self.folder}/disks", *options]
        self.process = subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = json.loads(self.process.stdout.readline())
        self.endpoint, self.imds = ready["endpoint"], ready["imds"]

    def stop(self) -> int:
        """Its exit status, after it gave everything back."""
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        shutil.rmtree(self.folder)
        return code

    def client(self, service: str = "ec2", region: str = "eu-west-1", retries: int = 1, parameter_validation: bool = True, **keys):
        config = botocore.config.Config(
            retries={"total_max_attempts": retries, "mode": "standard"}, proxies={}, read_timeout=20,
            parameter_validation=parameter_validation,
        )
        made = SESSION.client(
            service, region_name=region, endpoint_url=self.endpoint, config=config, **{**KEYS, **keys}
        )
        if service == "ec2":
            made.meta.events.register("after-call.ec2", every_field_was_read)
        return made

    def control(self, method: str, page: str, document=None):
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.endpoint}/_control/{page}", data=body, method=method)
        return json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30))

    def seed(self, **about) -> dict:
        return self.control("POST", "seed", about)

    def disk(self, name: str, size: int = 1 << 30) -> str:
        """A raw disk with a GPT and two partitions."""
        path = f"{self.folder}/{name}"
        with open(path, "wb") as file:
            file.truncate(size)
        table = "label: gpt\n,16MiB,U\n,,L\n"
        subprocess.run(["sfdisk", "-q", path], input=table, text=True, check=True)
        return path


def every_field_was_read(http_response, parsed, **_):
    """Each text of an answer stands in what botocore made of it: no element is unknown to the model or misplaced."""
    if http_response.status_code != 200:
        return
    root = ElementTree.fromstring(http_response.content)
    sent = sum(1 for each in root.iter() if len(each) == 0 and (each.text or "").strip())
    sent -= 1  # requestId
    if len(root) == 2 and root[1].tag.endswith("}return") and "Return" not in parsed:
        sent -= 1
    read = leaves({name: value for name, value in parsed.items() if name != "ResponseMetadata"})
    assert sent == read, f"{sent} texts sent, {read} read: {http_response.content!r} {parsed}"


def leaves(value) -> int:
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    if isinstance(value, list):
        return sum(map(leaves, value))
    return 0 if value == "" else 1


def eventually(what: str, met, seconds: float = 10):
    deadline = time.monotonic() + seconds
    while True:
        value = met()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come to be"
        time.sleep(0.01)
