"""Images copied from another Region: `CopyImage`, called where the copy is to be."""

import copy
import re
import time

from ..errors import Refusal, bad_combination, bad_value
from ..state import Image, Snapshot, new_id
from . import action, find, tags
from .places import region_names
from .registration import BAD_NAME, NAME
from .volumes import default_key

KMS_KEY = re.compile(
    r"(arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:)?"
    r"(alias/[A-Za-z0-9/_-]{1,250}|(key/)?(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}))"
)


@action("CopyImage")
def copy_image(call):
    given, region, state = call.input, call.region, call.state
    token = given.get("ClientToken")
    asked = {name: value for name, value in given.items() if name != "ClientToken"}
    if token in region.copy_tokens:
        before, identifier = region.copy_tokens[token]
        if before != asked:
            raise Refusal("IdempotentParameterMismatch", f"The client token {token} was used with other parameters")
        return {"ImageId": identifier}
    source = _source(call)
    if not NAME.fullmatch(given["Name"]):
        raise Refusal("InvalidAMIName.Malformed", BAD_NAME)
    account = state.settings.account
    for each in region.images.values():
        if each.owner == account and each.name == given["Name"] and each.state != "failed":
            raise Refusal("InvalidAMIName.Duplicate", f"AMI name {each.name} is already in use by AMI {each.id}")
    minutes = given.get("SnapshotCopyCompletionDurationMinutes")
    if minutes is not None and (minutes % 15 or not 15 <= minutes <= 2880):
        raise bad_value(f"Value ({minutes}) for parameter snapshotCopyCompletionDurationMinutes is invalid.")
    key, reachable = _key(call)
    marks = tags.each_at_creation(call, "image", "snapshot")
    find.dry_run(call)
    image = Image(
        new_id("ami"), marks.get("image", {}), owner=account, name=given["Name"], uefi_data=source.uefi_data,
        about=copy.deepcopy(source.about), source=(source.id, given["SourceRegion"]),
        mappings=copy.deepcopy(source.mappings),
    )
    if given.get("CopyImageTags"):
        image.tags = {**source.tags, **image.tags}
    if "Description" in given:
        image.about["Description"] = given["Description"]
    made = [_snapshot(call, each, given["SourceRegion"], key, marks.get("snapshot", {})) for each in image.mappings if "SnapshotId" in each.get("Ebs", {})]
    find.hide(call, image)
    region.images[image.id] = image
    if token:
        region.copy_tokens[token] = (asked, image.id)
    failing = call.fault("error-state") is not None or not reachable
    if call.fault("stuck") is None:
        state.clock.after(state.latency("copy"), _complete, state, image, made, failing)
    return {"ImageId": image.id}


def _source(call):
    given, state = call.input, call.state
    if given["SourceRegion"] not in region_names(state.settings):
        raise bad_value(f"Invalid region: {given['SourceRegion']}")
    here, call.region = call.region, state.region(given["SourceRegion"])
    try:
        source = find.image(call, given["SourceImageId"])
    finally:
        call.region = here
    if source.state != "available":
        raise Refusal("InvalidAMIID.Unavailable", f"The image ID '{source.id}' is not available: it is {source.state}")
    return source


def _key(call):
    """The key as it was given, and whether EBS will be able to use it: that is found out later."""
    given = call.input
    key = given.get("KmsKeyId")
    if key is None:
        return (default_key(call) if given.get("Encrypted") else None), True
    if not given.get("Encrypted"):
        raise Refusal("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
    found = KMS_KEY.fullmatch(key)
    if not found:
        raise bad_value(f"Value ({key}) for parameter kmsKeyId is invalid.")
    return key, found["region"] in (None, call.region.name)


def _snapshot(call, mapping: dict, source_region: str, key: str | None, marks: dict) -> Snapshot:
    state, volume = call.state, mapping["Ebs"]
    source = state.region(source_region).snapshots[volume["SnapshotId"]]
    if source.encrypted and call.input.get("Encrypted") is False:
        raise bad_combination("A copy of an encrypted snapshot can't be unencrypted.")
    identifier = new_id("snap")
    made = Snapshot(
        identifier, dict(marks), owner=state.settings.account, size=source.size, duration=state.latency("copy"),
        description=f"Copied for DestinationAmi from SourceAmi {call.input['SourceImageId']} for SourceSnapshot {source.id}.",
        encrypted=bool(key) or source.encrypted, kms_key=key or (default_key(call) if source.encrypted else None),
        platform=source.platform, file=state.file(f"{identifier}.raw"),
    )
    volume["SnapshotId"], volume["Encrypted"] = identifier, made.encrypted
    state.copy(source, made.file)
    call.region.snapshots[identifier] = made
    return made


def _complete(state, image, made: list, failing: bool) -> None:
    with state.lock:
        for each in made:
            each.state, each.completed = ("error" if failing else "completed"), time.time()
        image.state = "failed" if failing else "available"
