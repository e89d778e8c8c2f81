"""Snapshots: taken of a volume as it is at that moment, described, deleted."""

import time

from .. import filters
from ..errors import Refusal
from ..state import Snapshot, copy_disk, new_id, tag_set
from . import action, find, tags


@action("CreateSnapshot")
def create_snapshot(call):
    given, state = call.input, call.state
    volume = find.volume(call, given["VolumeId"])
    if volume.state not in ("available", "in-use"):
        raise Refusal("IncorrectState", f"The volume '{volume.id}' is '{volume.state}'.")
    marks = tags.at_creation(call, "snapshot")
    find.dry_run(call)
    identifier = new_id("snap")
    source = call.region.snapshots.get(volume.snapshot)
    snapshot = Snapshot(
        identifier, marks, owner=state.settings.account, volume=volume.id, size=volume.size,
        description=given.get("Description", ""), duration=state.latency("snapshot"), encrypted=volume.encrypted,
        kms_key=volume.kms_key, file=state.file(f"{identifier}.raw"),
    )
    if source:
        snapshot.platform = source.platform
    # What was written to the device until now; what its user has only in memory is not in it.
    with state.let_go():
        copy_disk(volume.file, snapshot.file)
    snapshot.created = time.time()
    find.hide(call, snapshot)
    call.region.snapshots[identifier] = snapshot
    if call.fault("stuck") is None:
        failing = call.fault("error-state") is not None
        state.clock.after(snapshot.duration, _complete, state, snapshot, failing)
    return _created(snapshot)


def _complete(state, snapshot, failing: bool) -> None:
    with state.lock:
        snapshot.state = "error" if failing else "completed"
        snapshot.completed = time.time()


def _created(snapshot) -> dict:
    return {
        "SnapshotId": snapshot.id, "VolumeId": snapshot.volume, "State": snapshot.state, "Progress": "",
        "StartTime": snapshot.created, "OwnerId": snapshot.owner, "VolumeSize": snapshot.size,
        "Description": snapshot.description, "Encrypted": snapshot.encrypted, "KmsKeyId": snapshot.kms_key,
        "Tags": tag_set(snapshot.tags) or None,
    }


def describe(snapshot) -> dict:
    shown = _created(snapshot)
    shown.update({"Progress": snapshot.progress(), "StorageTier": "standard"})
    if snapshot.state == "error":
        shown["StateMessage"] = "An internal error has occurred"
    if snapshot.state == "completed":
        shown["CompletionTime"] = snapshot.completed
    return shown


def _facts(snapshot) -> dict:
    return {
        "snapshot-id": snapshot.id, "volume-id": snapshot.volume, "status": snapshot.state, "owner-id": snapshot.owner,
        "volume-size": snapshot.size, "description": snapshot.description, "encrypted": snapshot.encrypted,
        "progress": snapshot.progress(), "storage-tier": "standard", "owner-alias": None, "start-time": None,
    }


@action("DescribeSnapshots")
def describe_snapshots(call):
    given, account = call.input, call.state.settings.account
    if "SnapshotIds" in given:
        things = [find.snapshot(call, each) for each in given["SnapshotIds"]]
    else:
        things = [each for each in call.region.snapshots.values() if not each.hidden() and (each.public or each.owner == account)]
    if "OwnerIds" in given:
        owners = [account if each == "self" else each for each in given["OwnerIds"]]
        things = [each for each in things if each.owner in owners]
    if "RestorableByUserIds" in given:
        wanted = given["RestorableByUserIds"]
        things = [each for each in things if each.owner == account and "self" in wanted or each.public and "all" in wanted]
    things = filters.apply(things, given.get("Filters"), _facts)
    find.dry_run(call)
    page, token = filters.page(things, given, least=5)
    return {"Snapshots": [describe(each) for each in page], "NextToken": token}


def users(region, identifier: str) -> list[str]:
    """The images that use a snapshot."""
    return [each.id for each in region.images.values() if identifier in each.snapshots()]


def delete(state, region, snapshot) -> None:
    region.snapshots.pop(snapshot.id, None)
    if snapshot.own_file:
        state.remove_file(snapshot.file)


@action("DeleteSnapshot")
def delete_snapshot(call):
    snapshot = find.own_snapshot(call, call.input["SnapshotId"])
    using = users(call.region, snapshot.id)
    if using:
        raise Refusal("InvalidSnapshot.InUse", f"The snapshot {snapshot.id} is currently in use by {using[0]}")
    find.dry_run(call)
    delete(call.state, call.region, snapshot)
