"""Who am I, in which role, and what was refused: STS."""

import base64
import json
import secrets
import time

from ..errors import Refusal
from . import action


@action("GetCallerIdentity", "sts")
def get_caller_identity(call):
    settings = call.state.settings
    return {
        "Account": settings.account,
        "UserId": f"AROASTANDIN:{settings.instance_id}",
        "Arn": f"arn:aws:sts::{settings.account}:assumed-role/{settings.role}/{settings.instance_id}",
    }


@action("AssumeRole", "sts")
def assume_role(call):
    """Gives keys that sign requests from now on; the request's record shows external id and tags."""
    arn, session = call.input["RoleArn"], call.input["RoleSessionName"]
    name = arn.rpartition("/")[2]
    key, secret, token = (secrets.token_hex(size) for size in (8, 20, 40))
    key = f"ASIA{key.upper()}"
    call.state.settings.keys[key] = (secret, token)
    expiration = time.time() + call.input.get("DurationSeconds", 3600)
    return {
        "Credentials": {"AccessKeyId": key, "SecretAccessKey": secret, "SessionToken": token, "Expiration": expiration},
        "AssumedRoleUser": {
            "AssumedRoleId": f"AROASTANDIN:{session}",
            "Arn": f"arn:aws:sts::{call.state.settings.account}:assumed-role/{name}/{session}",
        },
    }


@action("DecodeAuthorizationMessage", "sts")
def decode_authorization_message(call):
    try:
        decoded = json.loads(base64.urlsafe_b64decode(call.input["EncodedMessage"]))
    except ValueError:
        raise Refusal("InvalidAuthorizationMessageException", "Message is not valid", 400) from None
    return {"DecodedMessage": json.dumps(decoded)}
