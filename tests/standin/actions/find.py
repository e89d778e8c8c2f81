"""A resource by its id, or the error that EC2 gives instead."""

import re
import time

from ..errors import Refusal, bad_value


def well_formed(kind: str, text: str) -> bool:
    return re.fullmatch(rf"{kind}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", text) is not None


def _visible(table: dict, identifier: str):
    """The resource, unless it is not there yet for this call."""
    thing = table.get(identifier)
    if thing is not None and thing.hidden():
        thing.hidden_calls = max(0, thing.hidden_calls - 1)
        return None
    return thing


def volume(call, identifier: str):
    if not well_formed("vol", identifier):
        raise bad_value(f"Value ({identifier}) for parameter volumeId is invalid. Expected: 'vol-...'.")
    thing = _visible(call.region.volumes, identifier)
    if thing is None:
        raise Refusal("InvalidVolume.NotFound", f"The volume '{identifier}' does not exist.")
    return thing


def snapshot(call, identifier: str):
    if not well_formed("snap", identifier):
        raise Refusal(
            "InvalidSnapshotID.Malformed",
            f"Value ({identifier}) for parameter snapshotId is invalid. Expected: 'snap-...'.",
        )
    thing = _visible(call.region.snapshots, identifier)
    if thing is None or not visible_snapshot(call, thing):
        raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{identifier}' does not exist.")
    return thing


def visible_snapshot(call, thing) -> bool:
    account = call.state.settings.account
    return thing.public or thing.owner == account or {"UserId": account} in thing.permissions


def own_snapshot(call, identifier: str):
    thing = snapshot(call, identifier)
    if thing.owner != call.state.settings.account:
        raise Refusal("AuthFailure", f"Not authorized for snapshot: {identifier}", 403)
    return thing


def image(call, identifier: str):
    if not well_formed("ami", identifier):
        raise Refusal("InvalidAMIID.Malformed", f'Invalid id: "{identifier}" (expecting "ami-...")')
    if identifier in call.region.deregistered:
        raise Refusal("InvalidAMIID.Unavailable", f"The image ID '{identifier}' is no longer available")
    thing = _visible(call.region.images, identifier)
    if thing is None or not visible_image(call, thing):
        raise Refusal("InvalidAMIID.NotFound", f"The image id '[{identifier}]' does not exist")
    return thing


def own_image(call, identifier: str):
    thing = image(call, identifier)
    if thing.owner != call.state.settings.account:
        raise Refusal("AuthFailure", f"Not authorized for images: [{identifier}]", 403)
    return thing


def visible_image(call, thing) -> bool:
    account = call.state.settings.account
    return thing.public or thing.owner == account or account in [each.get("UserId") for each in thing.permissions]


def instance(call, identifier: str) -> None:
    if not well_formed("i", identifier):
        raise Refusal("InvalidInstanceID.Malformed", f'Invalid id: "{identifier}"')
    settings = call.state.settings
    if identifier not in {settings.instance_id, *settings.instances} or call.region.name != settings.region:
        raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{identifier}' does not exist")


def dry_run(call) -> None:
    """To be called when everything was checked and nothing was done yet."""
    if call.input.get("DryRun"):
        raise Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def hide(call, thing) -> None:
    """Makes a new resource unknown for a while, as a fault or the settings say."""
    thing.hidden_until = time.monotonic() + call.state.settings.consistency
    fault = call.fault("invisible")
    if fault:
        thing.hidden_until = time.monotonic() + fault.seconds
        thing.hidden_calls = fault.calls
