"""Who may use an image or a snapshot, and that an image can't be deregistered by accident."""

import re
import time

from ..errors import Refusal, bad_combination, bad_value, missing
from . import action, find
from .volumes import default_key

ACCOUNT = re.compile(r"\d{12}")
ORGANIZATION = re.compile(r"arn:aws[a-z-]*:organizations::\d{12}:organization/o-[a-z0-9]{10,32}")
UNIT = re.compile(r"arn:aws[a-z-]*:organizations::\d{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}")


def _key(permission: dict) -> tuple:
    [(name, value)] = permission.items()
    return name, value


def _judge(permission: dict) -> None:
    if len(permission) != 1:
        raise bad_combination("A permission is one of a user id, a group, an organization and an organizational unit.")
    name, value = _key(permission)
    if name == "UserId" and not ACCOUNT.fullmatch(value):
        raise Refusal("InvalidUserID.Malformed", f'Invalid user id: "{value}"')
    if name == "Group" and value != "all":
        raise bad_value(f"Value ({value}) for parameter group is invalid. Valid values: all")
    if name == "OrganizationArn" and not ORGANIZATION.fullmatch(value):
        raise bad_value(f"Value ({value}) for parameter organizationArn is invalid.")
    if name == "OrganizationalUnitArn" and not UNIT.fullmatch(value):
        raise bad_value(f"Value ({value}) for parameter organizationalUnitArn is invalid.")


def _changed(now: list, changes: dict) -> list:
    for each in [*changes.get("Add", []), *changes.get("Remove", [])]:
        _judge(each)
    kept = {_key(each): each for each in now}
    kept.update({_key(each): each for each in changes.get("Add", [])})
    for each in changes.get("Remove", []):
        kept.pop(_key(each), None)
    return list(kept.values())


def _check_encryption(call, snapshot, added: list) -> None:
    if not added or not snapshot.encrypted:
        return
    if any("Group" in each for each in added):
        raise Refusal("InvalidParameter", f"Encrypted snapshot {snapshot.id} cannot be shared publicly")
    if snapshot.kms_key == default_key(call):
        raise Refusal("InvalidParameter", f"Snapshot {snapshot.id} encrypted with EBS default key cannot be shared")


@action("ModifyImageAttribute")
def modify_image_attribute(call):
    given = call.input
    image = find.own_image(call, given["ImageId"])
    if "Description" in given and "LaunchPermission" not in given:
        find.dry_run(call)
        image.about["Description"] = given["Description"].get("Value", "")
        return None
    changes = given.get("LaunchPermission")
    if changes is None:
        raise missing("launchPermission")
    if image.state != "available":
        raise Refusal("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available")
    now = [*([{"Group": "all"}] if image.public else []), *image.permissions]
    then = _changed(now, changes)
    for identifier in image.snapshots():
        _check_encryption(call, call.region.snapshots[identifier], changes.get("Add", []))
    find.dry_run(call)
    image.public = {"Group": "all"} in then
    image.permissions = [each for each in then if "Group" not in each]
    return None


@action("ModifySnapshotAttribute")
def modify_snapshot_attribute(call):
    given = call.input
    snapshot = find.own_snapshot(call, given["SnapshotId"])
    changes = given.get("CreateVolumePermission")
    if changes is None:
        raise missing("createVolumePermission")
    if snapshot.state != "completed":
        raise Refusal("IncorrectState", f"The snapshot '{snapshot.id}' is '{snapshot.state}'")
    now = [*([{"Group": "all"}] if snapshot.public else []), *snapshot.permissions]
    then = _changed(now, changes)
    _check_encryption(call, snapshot, changes.get("Add", []))
    find.dry_run(call)
    snapshot.public = {"Group": "all"} in then
    snapshot.permissions = [each for each in then if "Group" not in each]
    return None


@action("DescribeSnapshotAttribute")
def describe_snapshot_attribute(call):
    snapshot = find.own_snapshot(call, call.input["SnapshotId"])
    find.dry_run(call)
    if call.input["Attribute"] == "productCodes":
        return {"SnapshotId": snapshot.id, "ProductCodes": []}
    everyone = [{"Group": "all"}] if snapshot.public else []
    return {"SnapshotId": snapshot.id, "CreateVolumePermissions": everyone + snapshot.permissions}


@action("EnableImageDeregistrationProtection")
def enable_image_deregistration_protection(call):
    image = find.own_image(call, call.input["ImageId"])
    find.dry_run(call)
    image.protection = f"enabled-{'with' if call.input.get('WithCooldown') else 'without'}-cooldown"
    return {"Return": image.protection}


@action("DisableImageDeregistrationProtection")
def disable_image_deregistration_protection(call):
    """With a cool-down it holds for 24 hours more."""
    image = find.own_image(call, call.input["ImageId"])
    find.dry_run(call)
    if image.protection == "enabled-with-cooldown":
        image.protected_until = time.time() + 86400
    image.protection = "disabled"
    return {"Return": "disabled"}
