"""S3, as far as a builder fetches from it: HeadObject and GetObject, path-style, with versions."""

import email.utils
import hashlib
import urllib.parse
import uuid
from xml.sax.saxutils import escape

from . import sigv4
from .errors import Refusal


class Version:
    def __init__(self, file: str | None, text: str | None, version: str | None):
        if file is None:
            self.body = (text or "").encode()
        else:
            with open(file, "rb") as opened:
                self.body = opened.read()
        self.version = version
        self.etag = f'"{hashlib.md5(self.body).hexdigest()}"'


class Bucket:
    def __init__(self, region: str, versioned: bool):
        self.region = region
        self.versioned = versioned
        self.objects: dict[str, list[Version]] = {}


def seed(state, given: dict) -> dict:
    """Puts an object: `bucket`, `key`, `file` or `text`; of a bucket in `region`, with versions unless `versioned` is
    false. A bucket is made by its first object."""
    bucket = state.buckets.get(given["bucket"])
    if bucket is None:
        bucket = Bucket(given.get("region", state.settings.region), given.get("versioned", True))
        state.buckets[given["bucket"]] = bucket
    version = Version(given.get("file"), given.get("text"), uuid.uuid4().hex if bucket.versioned else None)
    kept = bucket.objects.setdefault(given["key"], [])
    if not bucket.versioned:
        kept.clear()
    kept.append(version)
    return {"version": version.version, "etag": version.etag}


def answer(endpoint) -> None:
    """One GET or HEAD of an object."""
    state, head = endpoint.server.state, endpoint.command == "HEAD"
    path, _, query = endpoint.path.partition("?")
    asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    bucket, _, key = urllib.parse.unquote(path.removeprefix("/")).partition("/")
    action = "HeadObject" if head else "GetObject"
    given = {"Bucket": bucket, "Key": key}
    if "versionId" in asked:
        given["VersionId"] = asked["versionId"]
    if endpoint.headers.get("If-Match"):
        given["IfMatch"] = endpoint.headers["If-Match"]
    entry = state.requests.open("s3", action, given, endpoint.headers)
    extra = {"x-amz-request-id": uuid.uuid4().hex[:16].upper()}
    try:
        caller = sigv4.scope(endpoint.headers)
        entry["region"], entry["access_key"] = caller.region, caller.access_key
        faults = state.faults.meeting(action, given)
        sigv4.verify(state.settings.keys, endpoint.command, endpoint.path, endpoint.headers, b"")
        endpoint.meet_transport(faults, "before", entry)
        with state.lock:
            found = _find(state, given, caller, extra)
        state.requests.note(entry, done=True)
        endpoint.meet_transport(faults, "after", entry)
        extra["ETag"] = found.etag
        extra["Last-Modified"] = email.utils.formatdate(state.instance_launched, usegmt=True)
        if found.version:
            extra["x-amz-version-id"] = found.version
        state.requests.note(entry, status=200)
        endpoint.reply(200, "binary/octet-stream", found.body, extra)
    except Refusal as error:
        document = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{escape(error.code)}</Code>'
            f"<Message>{escape(error.message)}</Message></Error>"
        ).encode()
        state.requests.note(entry, status=error.status, error=error.code)
        endpoint.reply(error.status, "application/xml", document, extra)


def _find(state, given: dict, caller, extra: dict) -> Version:
    bucket = state.buckets.get(given["Bucket"])
    if bucket is None:
        raise Refusal("NoSuchBucket", "The specified bucket does not exist", 404)
    extra["x-amz-bucket-region"] = bucket.region
    if bucket.region != caller.region:
        raise Refusal("PermanentRedirect", "The bucket you are attempting to access must be addressed elsewhere.", 301)
    versions = bucket.objects.get(given["Key"])
    if not versions:
        raise Refusal("NoSuchKey", "The specified key does not exist.", 404)
    found = versions[-1]
    if "VersionId" in given:
        found = next((each for each in versions if (each.version or "null") == given["VersionId"]), None)
        if found is None:
            raise Refusal("NoSuchVersion", "The specified version does not exist.", 404)
    if given.get("IfMatch", found.etag).strip('"') != found.etag.strip('"'):
        raise Refusal("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
    return found
