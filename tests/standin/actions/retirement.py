"""Images taken out of use: deprecated, disabled."""

import time

from ..errors import Refusal
from . import action, find

YEAR = 365 * 86400


@action("EnableImageDeprecation")
def enable_image_deprecation(call):
    image = find.own_image(call, call.input["ImageId"])
    at = call.input["DeprecateAt"].timestamp()
    # Rounded to the minute, as EC2 does.
    at = round(at / 60) * 60
    if at < time.time():
        raise Refusal("InvalidParameterValue", "The deprecation time must be in the future")
    if at > (image.created + 2 * YEAR if image.public else time.time() + 10 * YEAR):
        raise Refusal("InvalidParameterValue", "The deprecation time is too far in the future")
    find.dry_run(call)
    image.deprecated = at
    return {"Return": True}


@action("DisableImageDeprecation")
def disable_image_deprecation(call):
    image = find.own_image(call, call.input["ImageId"])
    find.dry_run(call)
    image.deprecated = None
    return {"Return": True}


@action("DisableImage")
def disable_image(call):
    image = find.own_image(call, call.input["ImageId"])
    if image.state == "disabled":
        return {"Return": True}
    if image.state != "available":
        raise Refusal("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is {image.state}")
    find.dry_run(call)
    image.state = "disabled"
    # It is private from here on.
    image.public = False
    image.permissions.clear()
    return {"Return": True}


@action("EnableImage")
def enable_image(call):
    image = find.own_image(call, call.input["ImageId"])
    find.dry_run(call)
    if image.state == "disabled":
        image.state = "available"
    return {"Return": True}
