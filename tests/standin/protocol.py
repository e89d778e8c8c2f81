"""The EC2 Query protocol: form parameters to values and values to XML, both by the service's model.

A value has the form that boto3 shows it in: dicts keyed by the model's member names. Anything that the
model does not know is refused on the way in, and is a bug of the stand-in on the way out."""

import base64
import datetime
import re
import urllib.parse
from xml.sax.saxutils import escape

from .errors import Refusal, bad_value, missing

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
ENVELOPE = ("Action", "Version")
# Shapes whose bad values have error codes of their own: their actions judge them.
JUDGED_LATER = ("VolumeType", "ImageNameRequest")


def form(body: bytes) -> dict:
    """The parameters of a POSTed form, in the order they came."""
    return dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=False))


def parse(flat: dict, shape) -> dict:
    """The input of an operation: every parameter known, each required one there, each of its type."""
    tree = {}
    for key, value in flat.items():
        if key in ENVELOPE:
            continue
        here = tree
        *path, last = key.split(".")
        for part in path:
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                raise unknown(key)
        if isinstance(here.get(last), dict):
            raise unknown(key)
        here[last] = value
    if shape is None:
        if tree:
            raise unknown(next(iter(tree)))
        return {}
    return _structure(tree, shape, "")


def unknown(name: str) -> Refusal:
    return Refusal("UnknownParameter", f"The parameter {name} is not recognized")


def request_name(member: str, shape) -> str:
    """A parameter's name in an EC2 request: `queryName`, else the location's name with a capital, else the member's."""
    serialization = shape.serialization
    if "queryName" in serialization:
        return serialization["queryName"]
    name = serialization.get("name")
    return name[0].upper() + name[1:] if name else member


def _structure(tree, shape, path: str) -> dict:
    if not isinstance(tree, dict):
        raise unknown(path)
    names = {request_name(member, inner): member for member, inner in shape.members.items()}
    value = {}
    for key, inner in tree.items():
        full = f"{path}.{key}" if path else key
        if key not in names:
            raise unknown(full)
        member = names[key]
        value[member] = _value(inner, shape.members[member], full)
    for member in shape.required_members:
        if member not in value:
            name = request_name(member, shape.members[member])
            raise missing(f"{path}.{name}" if path else name[0].lower() + name[1:])
    return value


def _value(raw, shape, path: str):
    if shape.type_name == "structure":
        return _structure(raw, shape, path)
    if shape.type_name == "list":
        if not isinstance(raw, dict) or not all(re.fullmatch(r"[1-9]\d*", index) for index in raw):
            raise unknown(path)
        return [_value(raw[index], shape.member, f"{path}.{index}") for index in sorted(raw, key=int)]
    if isinstance(raw, dict):
        raise unknown(path)
    return _scalar(raw, shape, path)


def _scalar(raw: str, shape, path: str):
    kind = shape.type_name
    refused = bad_value(f"Value ({raw}) for parameter {path} is invalid.")
    try:
        if kind in ("integer", "long"):
            value = int(raw)
        elif kind in ("float", "double"):
            value = float(raw)
        elif kind == "boolean":
            value = {"true": True, "false": False}[raw]
        elif kind == "timestamp":
            value = datetime.datetime.fromisoformat(raw)
        elif kind == "blob":
            value = base64.b64decode(raw, validate=True)
        else:
            value = raw
    except (ValueError, KeyError):
        raise refused from None
    if shape.name in JUDGED_LATER:
        return value
    if getattr(shape, "enum", None) and raw not in shape.enum:
        raise bad_value(f"Value ({raw}) for parameter {path} is invalid. Valid values: {', '.join(shape.enum)}")
    limits = shape.metadata
    size = len(value) if isinstance(value, (str, bytes)) else value
    if isinstance(size, (int, float)) and not isinstance(size, bool):
        if size < limits.get("min", size) or size > limits.get("max", size):
            raise refused
    if isinstance(value, str) and "pattern" in limits and not _matches(limits["pattern"], value):
        raise refused
    return value


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # written for another language's engine
        return True


def answer(operation, output, request_id: str) -> bytes:
    """The document that answers a call. An operation without an output says `true`, as EC2 does."""
    parts = [f'<?xml version="1.0" encoding="UTF-8"?>\n<{operation.name}Response xmlns="{NAMESPACE}">']
    parts.append(f"<requestId>{request_id}</requestId>")
    if operation.output_shape is None:
        parts.append("<return>true</return>")
    else:
        _members(parts, output, operation.output_shape)
    parts.append(f"</{operation.name}Response>")
    return "".join(parts).encode()


def members(value: dict, shape, item: str) -> str:
    """A structure's members; `item` is what a list's items are called where the model says nothing."""
    parts: list = []
    _members(parts, value, shape, item)
    return "".join(parts)


def _members(parts: list, value: dict, shape, item: str = "item") -> None:
    strangers = set(value) - set(shape.members)
    if strangers:
        raise AssertionError(f"{shape.name} has no {sorted(strangers)}")
    for member, inner in shape.members.items():
        if value.get(member) is not None:
            _element(parts, inner.serialization.get("name", member), value[member], inner, item)


def _element(parts: list, name: str, value, shape, item: str) -> None:
    parts.append(f"<{name}>")
    if shape.type_name == "structure":
        _members(parts, value, shape, item)
    elif shape.type_name == "list":
        called = shape.member.serialization.get("name", item)
        for each in value:
            _element(parts, called, each, shape.member, item)
    else:
        parts.append(escape(text(value, shape)))
    parts.append(f"</{name}>")


def text(value, shape) -> str:
    kind = shape.type_name
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp":
        return timestamp(value)
    if kind == "blob":
        return base64.b64encode(value).decode()
    if kind in ("integer", "long"):
        return str(int(value))
    if getattr(shape, "enum", None) and value not in shape.enum:
        raise AssertionError(f"{shape.name} has no value {value!r}")
    return str(value)


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as EC2 writes them: UTC with milliseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def refusal(error: Refusal, request_id: str) -> bytes:
    """The document that says an error."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        f"</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    ).encode()
