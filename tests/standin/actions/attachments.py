"""Volumes attached to and detached from the builder, with real devices."""

import re

from ..devices import Taken
from ..errors import Refusal, bad_value
from ..state import Attachment
from . import action, find
from .volumes import describe_attachment

# How often a device that is still open is looked at again, seconds.
BUSY_LOOK = 0.05
DEVICE_NAME = re.compile(r"(/dev/)?(sd[a-z][0-9]{0,2}|xvd[a-z]{1,2})")


@action("AttachVolume")
def attach_volume(call):
    given, state = call.input, call.state
    volume = find.volume(call, given["VolumeId"])
    find.instance(call, given["InstanceId"])
    device = given["Device"]
    if not DEVICE_NAME.fullmatch(device):
        raise bad_value(f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name.")
    if volume.attachment:
        raise Refusal("VolumeInUse", f"{volume.id} is already attached to an instance")
    if volume.state != "available":
        raise Refusal("IncorrectState", f"{volume.id} is not 'available'.")
    if volume.zone != state.settings.zone:
        raise Refusal(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume.id}' is not in the same availability zone as instance '{given['InstanceId']}'",
        )
    taken = bad_value(f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use")
    used = [each.attachment.device for each in call.region.volumes.values() if each.attachment]
    if _plain(device) in [_plain(each) for each in used] + ["a", "a1"]:
        raise taken
    find.dry_run(call)
    try:
        attached = state.devices.reserve(volume.id, volume.file, device)
    except Taken:
        raise taken from None
    volume.attachment = Attachment(given["InstanceId"], device, attached)
    volume.state = "in-use"
    if call.fault("stuck"):
        volume.attachment.stuck = True
    else:
        state.clock.after(state.latency("attach"), _attach, state, volume, volume.attachment)
    return describe_attachment(volume)


def _plain(device: str) -> str:
    return re.sub(r"^(/dev/)?(sd|xvd)", "", device)


def _attach(state, volume, attachment) -> None:
    with state.lock:
        if attachment.state != "attaching":
            return
        state.devices.attach(attachment.attached)
        attachment.state = "attached"


@action("DetachVolume")
def detach_volume(call):
    given, state = call.input, call.state
    volume = find.volume(call, given["VolumeId"])
    if "InstanceId" in given:
        find.instance(call, given["InstanceId"])
    attachment = volume.attachment
    if attachment is None:
        raise Refusal("IncorrectState", f"Volume '{volume.id}' is in the '{volume.state}' state.")
    if given.get("Device", attachment.device) != attachment.device:
        raise Refusal("InvalidAttachment.NotFound", f"The volume '{volume.id}' is not attached as device '{given['Device']}'.")
    find.dry_run(call)
    if attachment.state in ("detaching", "busy"):
        if given.get("Force") and attachment.stuck:
            attachment.stuck = False
            state.clock.after(state.latency("detach"), _detach, state, volume, attachment)
        return describe_attachment(volume, "detaching")
    attachment.state = "detaching"
    attachment.stuck = call.fault("stuck") is not None
    if attachment.stuck and call.fault("stuck").code == "busy":
        attachment.state = "busy"
    if not attachment.stuck:
        state.clock.after(state.latency("detach"), _detach, state, volume, attachment)
    return describe_attachment(volume, "detaching")


def _detach(state, volume, attachment) -> None:
    """Lets the device go; while something has it open the attachment is busy."""
    with state.lock:
        if volume.attachment is not attachment:
            return
        if attachment.attached is None or state.devices.detach(attachment.attached):
            volume.attachment = None
            volume.state = "available"
        else:
            attachment.state = "busy"
            state.clock.after(BUSY_LOOK, _detach, state, volume, attachment)


def unstick(state, volume) -> None:
    """Under the lock."""
    if volume.state == "creating":
        volume.state = "available"
    attachment = volume.attachment
    if attachment and attachment.stuck:
        attachment.stuck = False
        step = _attach if attachment.state == "attaching" else _detach
        state.clock.after(0, step, state, volume, attachment)
