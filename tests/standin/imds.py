"""The instance metadata service, version 2 only: a token first, then the tree."""

import json
import secrets
import time

from .protocol import timestamp
from .errors import Refusal
from .actions.volumes import zone_id
from .server import Handler, Reset


class Metadata(Handler):
    """Answers under /latest. Faults name its calls `IMDS` and the path, such as `IMDS:/latest/api/token`."""

    def do_PUT(self):
        self.body()
        if self.path != "/latest/api/token":
            return self._text(404, "")
        try:
            lifetime = int(self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") or 0)
        except ValueError:
            lifetime = 0
        if not 1 <= lifetime <= 21600:
            return self._text(400, "")
        token = secrets.token_urlsafe(40)
        self.server.tokens[token] = time.monotonic() + lifetime
        self._faulty(lambda: self._text(200, token, {"X-aws-ec2-metadata-token-ttl-seconds": str(lifetime)}))

    def do_GET(self):
        given = self.headers.get("X-aws-ec2-metadata-token")
        if self.server.tokens.get(given, 0) < time.monotonic():
            return self._text(401, "")
        self._faulty(self._look_up)

    def _faulty(self, reply) -> None:
        state = self.server.state
        action = f"IMDS:{self.path}"
        entry = state.requests.open("imds", action, {}, self.headers)
        faults = state.faults.meeting(action, {})
        try:
            self.meet_transport(faults, "before", entry)
            reply()
            state.requests.note(entry, done=True, status=200)
        except Refusal as error:
            self._text(error.status, error.code)
        except Reset:
            self.reset()

    def _look_up(self) -> None:
        here = tree(self.server.state.settings)
        for part in [each for each in self.path.split("?")[0].split("/") if each]:
            if not isinstance(here, dict) or part not in here:
                return self._text(404, "")
            here = here[part]
        if isinstance(here, dict):
            here = "\n".join(f"{name}/" if isinstance(inner, dict) else name for name, inner in here.items())
        self._text(200, here)

    def _text(self, status: int, text: str, extra: dict | None = None) -> None:
        kind = "application/json" if text.startswith("{") else "text/plain"
        self.reply(status, kind, text.encode(), extra)


def tree(settings) -> dict:
    """The metadata as folders and texts."""
    key, (secret, token) = next((key, pair) for key, pair in settings.keys.items() if pair[1])
    now = time.time()
    identity = {
        "accountId": settings.account, "architecture": settings.arch, "availabilityZone": settings.zone,
        "billingProducts": None, "devpayProductCodes": None, "marketplaceProductCodes": None,
        "imageId": "ami-0b1d0c2e3f4a50000", "instanceId": settings.instance_id, "instanceType": settings.instance_type,
        "kernelId": None, "pendingTime": timestamp(now - 3600)[:19] + "Z", "privateIp": "10.0.0.10", "ramdiskId": None,
        "region": settings.region, "version": "2017-09-30",
    }
    credentials = {
        "Code": "Success", "LastUpdated": timestamp(now)[:19] + "Z", "Type": "AWS-HMAC", "AccessKeyId": key,
        "SecretAccessKey": secret, "Token": token, "Expiration": timestamp(now + 6 * 3600)[:19] + "Z",
    }
    metadata = {
        "ami-id": "ami-0b1d0c2e3f4a50000",
        "hostname": "ip-10-0-0-10.ec2.internal",
        "iam": {
            "info": json.dumps({"Code": "Success", "InstanceProfileArn": f"arn:aws:iam::{settings.account}:instance-profile/{settings.role}"}),
            "security-credentials": {settings.role: json.dumps(credentials)},
        },
        "instance-id": settings.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": settings.instance_type,
        "local-hostname": "ip-10-0-0-10.ec2.internal",
        "local-ipv4": "10.0.0.10",
        "mac": "02:00:00:00:00:01",
        "placement": {
            "availability-zone": settings.zone, "availability-zone-id": zone_id(settings.zone), "region": settings.region,
        },
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    return {"latest": {"meta-data": metadata, "dynamic": {"instance-identity": {"document": json.dumps(identity)}}}}
