"""What goes wrong on purpose: faults set per action and occurrence, and the calls that are held."""

import base64
import itertools
import json
import threading

from .errors import Refusal

QUOTAS = {
    "CreateVolume": ("VolumeLimitExceeded", "You have exceeded your storage quota for this volume type."),
    "AttachVolume": ("AttachmentLimitExceeded", "You have exceeded the number of volumes that can be attached."),
    "CreateSnapshot": ("SnapshotLimitExceeded", "You have reached the limit on the number of snapshots."),
    "CopySnapshot": ("ResourceLimitExceeded", "You have exceeded the number of snapshot copies in progress."),
    "RegisterImage": ("ResourceLimitExceeded", "You have reached the limit on the number of AMIs in this Region."),
}
EXPIRED = {"ssm": ("ExpiredTokenException", 400), "sts": ("ExpiredToken", 403)}
EFFECTS = ("stuck", "error-state", "invisible")
TRANSPORT = ("reset", "slow", "hold", "bare")
REFUSALS = ("throttle", "internal", "unavailable", "capacity", "quota", "expired", "denied", "auth-failure", "error")


class Fault:
    """One fault. `action`: a name or `*`; `on`: the first matching call that it meets (from 1, counted from
    when it was set); `times`: how many in a row, 0 for all; `when`: `before` or `after` the call is carried
    out; `where`: request parameters that must be as given; `region`: in that Region alone."""

    def __init__(self, number: int, document: dict):
        known = {"action", "kind", "on", "times", "when", "seconds", "calls", "code", "message", "status", "where", "region"}
        strangers = set(document) - known
        self.kind = document.get("kind")
        if strangers or self.kind not in EFFECTS + TRANSPORT + REFUSALS:
            raise ValueError(f"a fault has no {sorted(strangers) or self.kind!r}")
        self.id = number
        self.action = document.get("action", "*")
        self.on = document.get("on", 1)
        self.times = document.get("times", 1)
        self.when = document.get("when", "before")
        if self.when not in ("before", "after"):
            raise ValueError(f"when is before or after, not {self.when!r}")
        self.seconds = document.get("seconds", 0)
        self.calls = document.get("calls", 0)
        self.code = document.get("code", "InternalError")
        self.message = document.get("message", "as the test asked")
        self.status = document.get("status", 400)
        self.where = document.get("where", {})
        self.region = document.get("region")
        self.met = 0

    def meets(self, action: str, parameters: dict, region: str | None) -> bool:
        if self.action not in ("*", action) or self.region not in (None, region):
            return False
        if any(str(parameters.get(name)) != str(value) for name, value in self.where.items()):
            return False
        self.met += 1
        return self.on <= self.met and (self.times == 0 or self.met < self.on + self.times)

    def refusal(self, service: str, action: str) -> Refusal:
        if self.kind == "throttle":
            if service == "ec2":
                return Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
            return Refusal("ThrottlingException", "Rate exceeded")
        if self.kind == "internal":
            return Refusal("InternalError", "An internal error has occurred", 500)
        if self.kind == "unavailable":
            return Refusal("Unavailable", "The server is overloaded and can't handle the request.", 503)
        if self.kind == "capacity":
            return Refusal("InsufficientVolumeCapacity", "There is not enough capacity to fulfill your request.", 500)
        if self.kind == "quota":
            return Refusal(*QUOTAS.get(action, ("ResourceLimitExceeded", "You have reached a limit.")))
        if self.kind == "expired":
            code, status = EXPIRED.get(service, ("RequestExpired", 400))
            return Refusal(code, "Request has expired.", status)
        if self.kind == "denied":
            return denied(service, action)
        if self.kind == "auth-failure":
            return Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        return Refusal(self.code, self.message, self.status)

    def document(self) -> dict:
        return {"id": self.id, "action": self.action, "kind": self.kind, "on": self.on, "times": self.times, "met": self.met}


def denied(service: str, action: str) -> Refusal:
    context = {
        "principal": {"arn": "arn:aws:sts::123456789012:assumed-role/builder/i-0"},
        "action": f"{service}:{action}", "resource": "arn:aws:ec2:eu-west-1:123456789012:*/*", "conditions": {"items": []},
    }
    decoded = {
        "allowed": False, "explicitDeny": False, "matchedStatements": {"items": []}, "failures": {"items": []},
        "context": context,
    }
    encoded = base64.urlsafe_b64encode(json.dumps(decoded).encode()).decode()
    code = "UnauthorizedOperation" if service == "ec2" else "AccessDeniedException"
    return Refusal(
        code,
        "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/builder/i-0 "
        f"is not authorized to perform: {service}:{action} because no identity-based policy allows the "
        f"{service}:{action} action. Encoded authorization failure message: {encoded}",
        403,
    )


class Faults:
    """All faults set, and the calls held by one."""

    def __init__(self):
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._faults: list[Fault] = []
        self._changed = threading.Condition()
        self._held: dict[int, dict] = {}
        self._ended = False

    def add(self, document: dict) -> int:
        fault = Fault(next(self._numbers), document)
        with self._lock:
            self._faults.append(fault)
        return fault.id

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def documents(self) -> list[dict]:
        with self._lock:
            return [each.document() for each in self._faults]

    def meeting(self, action: str, parameters: dict, region: str | None = None) -> list[Fault]:
        with self._lock:
            return [each for each in self._faults if each.meets(action, parameters, region)]

    def hold(self, request: dict, when: str) -> bool:
        """Waits until the call is released. False: it was released to be dropped."""
        entry = {"request": request["n"], "action": request["action"], "when": when, "released": None}
        with self._changed:
            self._held[request["n"]] = entry
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended or entry["released"])
            self._held.pop(request["n"], None)
            self._changed.notify_all()
        return entry["released"] == "go"

    def held(self, seconds: float) -> list[dict]:
        """The calls held now; waits so long for one to be."""
        with self._changed:
            self._changed.wait_for(lambda: self._held, seconds)
            return list(self._held.values())

    def release(self, how: str, request: int | None = None) -> int:
        with self._changed:
            chosen = [each for each in self._held.values() if request in (None, each["request"])]
            for each in chosen:
                each["released"] = how
            self._changed.notify_all()
            return len(chosen)

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
