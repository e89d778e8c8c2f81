"""Who is calling: the Signature Version 4 of a request, checked as AWS checks it."""

import hashlib
import hmac
import re
import urllib.parse

from .errors import Refusal

HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request,\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})"
)


class Caller:
    """The credential scope of a signed request."""

    def __init__(self, access_key: str, region: str, service: str):
        self.access_key = access_key
        self.region = region
        self.service = service


def scope(headers) -> Caller:
    """What the Authorization header says of itself, nothing verified."""
    found = HEADER.match(headers.get("Authorization") or "")
    if not found:
        raise Refusal("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    return Caller(found[1], found[3], found[4])


def verify(secrets: dict, method: str, target: str, headers, body: bytes) -> None:
    """Refuses a request whose key is unknown or whose signature does not fit it. `secrets`: by access key,
    the secret and the session token (None for a key that has none)."""
    refused = Refusal(
        "AuthFailure", "AWS was not able to validate the provided access credentials", 401
    )
    found = HEADER.match(headers.get("Authorization") or "")
    if not found or found[1] not in secrets:
        raise refused
    key, day, region, service, signed, signature = found.groups()
    secret, token = secrets[key]
    if token is not None and headers.get("X-Amz-Security-Token") != token:
        raise refused
    path, _, query = target.partition("?")
    pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
    quote = lambda part: urllib.parse.quote(part, safe="-_.~")
    names = signed.split(";")
    canonical = "\n".join(
        [
            method,
            path or "/",
            "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs),
            *(f"{name}:{' '.join((headers.get(name) or '').split())}" for name in names),
            "",
            signed,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            headers.get("X-Amz-Date") or "",
            f"{day}/{region}/{service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    signing_key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request", to_sign):
        signing_key = hmac.new(signing_key, part.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(signing_key.hex(), signature):
        raise refused
