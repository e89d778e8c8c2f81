"""Volumes: created (blank or of a snapshot), described, deleted."""

import os
import time

from .. import filters
from ..errors import Refusal, bad_combination, bad_value, missing
from ..state import GIB, Volume, new_id, tag_set
from . import action, find, tags

# Type to its sizes in GiB, IOPS, the most IOPS a GiB, and throughputs in MiB/s, as the EBS user guide has them.
TYPES = {
    "gp3": ((1, 65536), (3000, 80000), 500, (125, 2000)),
    "gp2": ((1, 16384), None, None, None),
    "io1": ((4, 16384), (100, 64000), 50, None),
    "io2": ((4, 65536), (100, 256000), 1000, None),
    "st1": ((125, 16384), None, None, None),
    "sc1": ((125, 16384), None, None, None),
    "standard": ((1, 1024), None, None, None),
}


def check_performance(kind: str, size: int | None, iops: int | None, throughput: int | None) -> None:
    """Refuses what a volume of that type cannot have."""
    if kind not in TYPES:
        raise Refusal("UnknownVolumeType", f"Unsupported volume type '{kind}' for volume creation.")
    sizes, iops_range, ratio, throughputs = TYPES[kind]
    if size is not None and not sizes[0] <= size <= sizes[1]:
        bound = "at least" if size < sizes[0] else "at most"
        limit = sizes[0] if size < sizes[0] else sizes[1]
        raise bad_value(f"Volume of {size}GiB is invalid for {kind}; it must be {bound} {limit}GiB.")
    if iops is None and kind in ("io1", "io2"):
        raise missing("iops")
    if iops is not None:
        if iops_range is None:
            raise bad_combination(f"The parameter iops is not supported for {kind} volumes.")
        if not iops_range[0] <= iops <= iops_range[1]:
            raise bad_value(
                f"Volume iops of {iops} is out of range; {kind} volumes have {iops_range[0]} to {iops_range[1]}."
            )
        if size is not None and iops > max(ratio * size, iops_range[0]):
            raise bad_value(f"Iops to volume size ratio of {iops / size:f} is too high; maximum is {ratio}.")
    if throughput is not None:
        if throughputs is None:
            raise bad_combination(f"The parameter throughput is not supported for {kind} volumes.")
        if not throughputs[0] <= throughput <= throughputs[1]:
            raise bad_value(
                f"Throughput of {throughput} MiB/s is out of range; {kind} volumes have {throughputs[0]} to {throughputs[1]}."
            )
        if throughput > (iops or 3000) / 4:
            raise bad_value(f"Throughput (MiBps) to iops ratio of {throughput / (iops or 3000):f} is too high; maximum is 0.250000.")


def zone_of(call) -> str:
    given = call.input
    if "AvailabilityZone" in given and "AvailabilityZoneId" in given:
        raise bad_combination("Only one of availabilityZone and availabilityZoneId may be given.")
    if "AvailabilityZoneId" in given:
        named = given["AvailabilityZoneId"]
        found = [zone for zone in zones(call.region.name) if zone_id(zone) == named]
    elif "AvailabilityZone" in given:
        named = given["AvailabilityZone"]
        found = [zone for zone in zones(call.region.name) if zone == named]
    else:
        raise missing("zone")
    if not found:
        raise Refusal("InvalidZone.NotFound", f"The zone '{named}' does not exist.")
    return found[0]


def zones(region: str) -> list[str]:
    return [f"{region}{letter}" for letter in "abc"]


def zone_id(zone: str) -> str:
    area, direction, number = zone[:-1].split("-")
    return f"{area}{direction[0]}{number}-az{ord(zone[-1]) - 96}"


@action("CreateVolume")
def create_volume(call):
    given, region = call.input, call.region
    asked = {name: value for name, value in given.items() if name not in ("ClientToken", "DryRun")}
    token = given.get("ClientToken")
    for earlier in region.volumes.values():
        if token and earlier.token == token:
            if earlier.asked != asked:
                raise Refusal("IdempotentParameterMismatch", "The client token was used with other parameters.")
            return describe(earlier)
    zone = zone_of(call)
    source = None
    if "SnapshotId" in given:
        source = find.snapshot(call, given["SnapshotId"])
        if source.state != "completed":
            raise Refusal("IncorrectState", f"Snapshot '{source.id}' is not 'completed'.")
    elif "Size" not in given:
        raise missing("size/snapshot")
    size = given.get("Size", source.size if source else 0)
    if source and size < source.size:
        raise bad_value(f"Volume of size {size}GiB is smaller than snapshot '{source.id}', expect size >= {source.size}GiB")
    kind = given.get("VolumeType", "gp2")
    check_performance(kind, size, given.get("Iops"), given.get("Throughput"))
    rate = given.get("VolumeInitializationRate")
    if rate is not None and source is None:
        raise bad_combination("The parameter volumeInitializationRate requires a snapshot.")
    if rate is not None and not 100 <= rate <= 300:
        raise bad_value(f"Value ({rate}) for parameter volumeInitializationRate is invalid. Valid values: 100 to 300.")
    encrypted = given.get("Encrypted", False) or bool(source and source.encrypted)
    if source and source.encrypted and given.get("Encrypted") is False:
        raise bad_combination("A volume of an encrypted snapshot cannot be unencrypted.")
    if "KmsKeyId" in given and not given.get("Encrypted"):
        raise Refusal("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
    marks = tags.at_creation(call, "volume")
    find.dry_run(call)
    identifier = new_id("vol")
    volume = Volume(
        identifier, marks, size=size, zone=zone, type=kind, iops=given.get("Iops", _usual_iops(kind, size)),
        throughput=given.get("Throughput", 125 if kind == "gp3" else None), initialization_rate=rate,
        snapshot=source.id if source else "", encrypted=encrypted,
        kms_key=given.get("KmsKeyId") or (default_key(call) if encrypted else None),
        token=token, asked=asked, file=call.state.file(f"{identifier}.raw"),
    )
    find.hide(call, volume)
    region.volumes[identifier] = volume
    if call.fault("stuck") is None:
        failing = call.fault("error-state") is not None
        call.state.clock.after(0, _fill, call.state, volume, source, failing)
    return describe(volume)


def _usual_iops(kind: str, size: int) -> int | None:
    if kind == "gp3":
        return 3000
    return min(16000, max(100, 3 * size)) if kind == "gp2" else None


def default_key(call) -> str:
    return f"arn:aws:kms:{call.region.name}:{call.state.settings.account}:key/00000000-0000-0000-0000-000000000001"


def _fill(state, volume, source, failing: bool) -> None:
    """Gives a new volume its content, then its state. Without the lock while it copies."""
    began = time.monotonic()
    if source and not failing:
        state.copy(source, volume.file)
    with open(volume.file, "ab") as file:
        os.truncate(file.fileno(), volume.size * GIB)
    left = state.latency("create-volume") - (time.monotonic() - began)
    state.clock.after(max(0.0, left), _filled, state, volume, failing)


def _filled(state, volume, failing: bool) -> None:
    with state.lock:
        if volume.state == "creating":
            volume.state = "error" if failing else "available"


def describe(volume) -> dict:
    shown = {
        "VolumeId": volume.id, "Size": volume.size, "SnapshotId": volume.snapshot, "AvailabilityZone": volume.zone,
        "AvailabilityZoneId": zone_id(volume.zone), "State": volume.state, "CreateTime": volume.created,
        "VolumeType": volume.type, "Iops": volume.iops, "Throughput": volume.throughput, "Encrypted": volume.encrypted,
        "KmsKeyId": volume.kms_key, "VolumeInitializationRate": volume.initialization_rate,
        "MultiAttachEnabled": False, "Tags": tag_set(volume.tags) or None, "Attachments": [],
    }
    if volume.attachment:
        shown["Attachments"] = [describe_attachment(volume)]
    return shown


def describe_attachment(volume, state: str | None = None) -> dict:
    attachment = volume.attachment
    return {
        "VolumeId": volume.id, "InstanceId": attachment.instance, "Device": attachment.device,
        "State": state or attachment.state, "AttachTime": attachment.since, "DeleteOnTermination": False,
    }


def _facts(volume) -> dict:
    attachment = volume.attachment
    return {
        "volume-id": volume.id, "status": volume.state, "size": volume.size, "snapshot-id": volume.snapshot,
        "availability-zone": volume.zone, "availability-zone-id": zone_id(volume.zone), "volume-type": volume.type,
        "encrypted": volume.encrypted, "create-time": None, "multi-attach-enabled": False,
        "attachment.device": attachment and attachment.device, "attachment.status": attachment and attachment.state,
        "attachment.instance-id": attachment and attachment.instance, "attachment.delete-on-termination": attachment and False,
    }


@action("DescribeVolumes")
def describe_volumes(call):
    given = call.input
    if "VolumeIds" in given:
        if "MaxResults" in given:
            raise bad_combination("The parameter volumeIds cannot be used with the parameter maxResults")
        things = [find.volume(call, each) for each in given["VolumeIds"]]
    else:
        things = [each for each in call.region.volumes.values() if not each.hidden()]
    things = filters.apply(things, given.get("Filters"), _facts)
    find.dry_run(call)
    page, token = filters.page(things, given, least=5)
    return {"Volumes": [describe(each) for each in page], "NextToken": token}


@action("DeleteVolume")
def delete_volume(call):
    volume = find.volume(call, call.input["VolumeId"])
    if volume.attachment:
        raise Refusal("VolumeInUse", f"Volume {volume.id} is currently attached to {volume.attachment.instance}")
    if volume.state in ("creating", "deleting"):
        raise Refusal("IncorrectState", f"The volume '{volume.id}' is '{volume.state}'.")
    find.dry_run(call)
    volume.state = "deleting"
    if call.state.latency("delete-volume") > 0:
        call.state.clock.after(call.state.latency("delete-volume"), _delete_later, call.state, call.region, volume)
    else:
        _delete(call.state, call.region, volume)


def _delete_later(state, region, volume) -> None:
    with state.lock:
        _delete(state, region, volume)


def _delete(state, region, volume) -> None:
    region.volumes.pop(volume.id, None)
    state.remove_file(volume.file)
