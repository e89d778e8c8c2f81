"""Images registered on a snapshot, and deregistered."""

import re
import time

from ..errors import Refusal, bad_combination, bad_value, missing
from ..state import Image, new_id
from . import action, find, snapshots, tags
from .volumes import check_performance

NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
# What the image shows as it was given, when it was given.
KEPT = ("Description", "BootMode", "TpmSupport", "ImdsSupport", "SriovNetSupport", "KernelId", "RamdiskId")
BAD_NAME = (
    "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
    "'(', ')', '.', '-', '/' and '_'"
)


@action("RegisterImage")
def register_image(call):
    given, region = call.input, call.region
    name = given["Name"]
    if not NAME.fullmatch(name):
        raise Refusal("InvalidAMIName.Malformed", BAD_NAME)
    account = call.state.settings.account
    for each in region.images.values():
        if each.owner == account and each.name == name and each.state != "failed":
            raise Refusal("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {each.id}")
    if "ImageLocation" in given:
        raise Refusal("UnsupportedOperation", "Instance store-backed AMIs are not supported.")
    if len(given.get("Description", "")) > 255:
        raise bad_value("The image description may be at most 255 characters long.")
    architecture = given.get("Architecture", "i386")
    virtualization = given.get("VirtualizationType", "paravirtual")
    _check_kind(given, architecture, virtualization)
    mappings = [_mapping(call, each) for each in given.get("BlockDeviceMappings", [])]
    devices = [each["DeviceName"] for each in mappings]
    for device in devices:
        if devices.count(device) > 1:
            raise Refusal("InvalidBlockDeviceMapping", f"The device '{device}' is used in more than one block-device mapping")
    if "RootDeviceName" not in given:
        raise missing("rootDeviceName")
    root = next((each for each in mappings if each["DeviceName"] == given["RootDeviceName"]), None)
    if root is None or "SnapshotId" not in root.get("Ebs", {}):
        raise Refusal("InvalidBlockDeviceMapping", f"The root device {given['RootDeviceName']} has no snapshot specified.")
    marks = tags.at_creation(call, "image")
    find.dry_run(call)
    platform, usage = region.snapshots[root["Ebs"]["SnapshotId"]].platform
    image = Image(new_id("ami"), marks, owner=account, name=name, mappings=mappings, uefi_data=given.get("UefiData"))
    image.about = {
        "Architecture": architecture, "VirtualizationType": virtualization, "RootDeviceName": given["RootDeviceName"],
        "EnaSupport": given.get("EnaSupport", False), "PlatformDetails": platform, "UsageOperation": usage,
        **{each: given[each] for each in KEPT if each in given},
    }
    find.hide(call, image)
    region.images[image.id] = image
    if call.fault("stuck") is None:
        failing = call.fault("error-state") is not None
        call.state.clock.after(call.state.latency("image"), _become, call.state, image, "failed" if failing else "available")
    return {"ImageId": image.id}


def _become(state, image, what: str) -> None:
    with state.lock:
        image.state = what


def _check_kind(given: dict, architecture: str, virtualization: str) -> None:
    if virtualization not in ("hvm", "paravirtual"):
        raise bad_value(f"Value ({virtualization}) for parameter virtualizationType is invalid. Valid values: paravirtual, hvm")
    boot = given.get("BootMode")
    if virtualization == "paravirtual":
        if architecture.startswith("arm64"):
            raise bad_combination(f"The architecture {architecture} requires the virtualization type hvm.")
        for each in ("EnaSupport", "SriovNetSupport"):
            if given.get(each):
                raise bad_combination(f"{each} requires the virtualization type hvm.")
        if boot not in (None, "legacy-bios"):
            raise bad_combination(f"The boot mode {boot} requires the virtualization type hvm.")
    if architecture.startswith("arm64") and boot not in (None, "uefi"):
        raise bad_combination(f"The architecture {architecture} requires the boot mode uefi.")
    if given.get("SriovNetSupport", "simple") != "simple":
        raise bad_value(f"Value ({given['SriovNetSupport']}) for parameter sriovNetSupport is invalid. Valid values: simple")
    if "TpmSupport" in given and boot not in ("uefi", "uefi-preferred"):
        raise bad_combination("TpmSupport requires the boot mode uefi or uefi-preferred.")
    if "UefiData" in given and boot not in ("uefi", "uefi-preferred"):
        raise bad_combination("UefiData requires the boot mode uefi or uefi-preferred.")


def _mapping(call, given: dict) -> dict:
    """One block-device mapping, as DescribeImages shows it afterwards."""
    if "DeviceName" not in given:
        raise missing("BlockDeviceMapping.DeviceName")
    device = given["DeviceName"]
    shown = {"DeviceName": device}
    if "NoDevice" in given:
        raise Refusal("InvalidBlockDeviceMapping", f"NoDevice is not allowed for {device} of a new image.")
    if "VirtualName" in given:
        if not re.fullmatch(r"ephemeral\d+", given["VirtualName"]):
            raise Refusal("InvalidBlockDeviceMapping", f"The virtual name '{given['VirtualName']}' is invalid.")
        return {**shown, "VirtualName": given["VirtualName"]}
    volume = given.get("Ebs")
    if not volume:
        raise Refusal("InvalidBlockDeviceMapping", f"The mapping of {device} says neither ebs nor a virtual name.")
    if "KmsKeyId" in volume:
        raise Refusal("InvalidBlockDeviceMapping", f"KmsKeyId is not allowed for {device} of a registered image.")
    source = None
    if "SnapshotId" in volume:
        if "Encrypted" in volume:
            raise Refusal(
                "InvalidBlockDeviceMapping",
                f"the encrypted flag cannot be specified since device {device} has a snapshot specified.",
            )
        source = find.own_snapshot(call, volume["SnapshotId"])
        if source.state != "completed":
            raise Refusal("IncorrectState", f"The snapshot '{source.id}' is not in the 'completed' state ('{source.state}').")
    elif "VolumeSize" not in volume:
        raise Refusal("InvalidBlockDeviceMapping", f"The mapping of {device} says neither a snapshot nor a size.")
    size = volume.get("VolumeSize", source.size if source else 0)
    if source and size < source.size:
        raise Refusal(
            "InvalidBlockDeviceMapping", f"Volume of size {size}GB is smaller than snapshot '{source.id}', expect size >= {source.size}GB"
        )
    kind = volume.get("VolumeType", "gp2")
    check_performance(kind, size, volume.get("Iops"), volume.get("Throughput"))
    shown["Ebs"] = {
        "DeleteOnTermination": volume.get("DeleteOnTermination", True), "VolumeSize": size, "VolumeType": kind,
        "Encrypted": source.encrypted if source else volume.get("Encrypted", False),
        **{each: volume[each] for each in ("Iops", "Throughput", "SnapshotId", "VolumeInitializationRate") if each in volume},
    }
    return shown


@action("DeregisterImage")
def deregister_image(call):
    given, region = call.input, call.region
    image = find.own_image(call, given["ImageId"])
    if image.protection != "disabled" or time.time() < image.protected_until:
        raise Refusal("OperationNotPermitted", f"The image {image.id} is protected from deregistration.")
    find.dry_run(call)
    region.images.pop(image.id)
    region.deregistered.add(image.id)
    results = []
    if given.get("DeleteAssociatedSnapshots"):
        for identifier in image.snapshots():
            snapshot = region.snapshots.get(identifier)
            used = snapshots.users(region, identifier)
            if snapshot is None or used or snapshot.owner != call.state.settings.account:
                results.append({"SnapshotId": identifier, "ReturnCode": "skipped"})
            else:
                snapshots.delete(call.state, region, snapshot)
                results.append({"SnapshotId": identifier, "ReturnCode": "success"})
    return {"Return": True, "DeleteSnapshotResults": results or None}
