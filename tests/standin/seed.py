"""Images that are there before a test begins, made from raw disk files."""

import os
import time

from .state import GIB, Attachment, Image, Snapshot, Volume, copy_disk, new_id

KNOWN = {
    "file", "copy", "region", "name", "image_id", "snapshot_id", "owner", "public", "snapshot_public", "state",
    "architecture", "virtualization_type", "root_device_name", "description", "created", "deprecated", "tags",
    "snapshot_tags", "boot_mode", "tpm_support", "imds_support", "ena_support", "sriov_net_support", "uefi_data",
    "platform_details", "usage_operation", "volume_size", "volume_type", "iops", "throughput", "encrypted",
    "delete_on_termination", "mappings", "snapshot_state", "root_device_type", "snapshot_platform",
    "source", "protection", "permissions",
}


def image(state, given: dict) -> dict:
    """Adds an image. `file` is the root disk, raw; it is read in place when it is first used and must not change
    until then, unless `copy` is true. `mappings` are further block-device mappings in DescribeImages' form."""
    strangers = set(given) - KNOWN
    if strangers:
        raise ValueError(f"an image to seed has no {sorted(strangers)}")
    settings = state.settings
    owner = given.get("owner", settings.account)
    snapshot_id = given.get("snapshot_id") or new_id("snap")
    file = os.path.realpath(given["file"])
    size = given.get("volume_size") or -(-os.path.getsize(file) // GIB) or 1
    own_file = bool(given.get("copy"))
    if own_file:
        target = state.file(f"{snapshot_id}.raw")
        copy_disk(file, target)
        file = target
    platform = (given.get("platform_details", "Linux/UNIX"), given.get("usage_operation", "RunInstances"))
    created = given.get("created", time.time() - 86400)
    snapshot = Snapshot(
        snapshot_id, dict(given.get("snapshot_tags", {})), created=created, owner=owner, size=size,
        state=given.get("snapshot_state", "completed"), completed=created, encrypted=given.get("encrypted", False),
        public=given.get("snapshot_public", given.get("public", True)), platform=tuple(given.get("snapshot_platform", platform)), file=file, own_file=own_file,
        description=f"Created for {given['name']}",
    )
    root = given.get("root_device_name", "/dev/xvda")
    volume = {
        "SnapshotId": snapshot_id, "VolumeSize": size, "VolumeType": given.get("volume_type", "gp3"),
        "DeleteOnTermination": given.get("delete_on_termination", True), "Encrypted": snapshot.encrypted,
    }
    for name in ("iops", "throughput"):
        if name in given:
            volume[name.capitalize()] = given[name]
    made = Image(
        given.get("image_id") or new_id("ami"), dict(given.get("tags", {})), created=created, owner=owner,
        name=given["name"], state=given.get("state", "available"), public=given.get("public", True),
        deprecated=given.get("deprecated"), uefi_data=given.get("uefi_data"),
        mappings=[{"DeviceName": root, "Ebs": volume}, *given.get("mappings", [])],
        source=tuple(given["source"]) if "source" in given else None, protection=given.get("protection", "disabled"),
        permissions=given.get("permissions", []),
    )
    made.about = {
        "Architecture": given.get("architecture", "x86_64"), "RootDeviceName": root,
        "VirtualizationType": given.get("virtualization_type", "hvm"), "EnaSupport": given.get("ena_support", True),
        "PlatformDetails": platform[0], "UsageOperation": platform[1],
    }
    members = {"description": "Description", "boot_mode": "BootMode", "tpm_support": "TpmSupport",
               "imds_support": "ImdsSupport", "sriov_net_support": "SriovNetSupport", "root_device_type": "RootDeviceType"}
    made.about.update({member: given[name] for name, member in members.items() if given.get(name)})
    with state.lock:
        region = state.region(given.get("region", settings.region))
        region.snapshots[snapshot_id] = snapshot
        region.images[made.id] = made
    return {"image_id": made.id, "snapshot_id": snapshot_id}


def volume(state, given: dict) -> dict:
    """Adds a volume that nobody's bake made, with the content of `file`, a raw disk. `attached` names an `instance`
    and a `device`: the builder gets the device, another instance is told of alone."""
    strangers = set(given) - {"file", "zone", "tags", "created", "volume_type", "iops", "throughput", "attached", "state"}
    if strangers:
        raise ValueError(f"a volume to seed has no {sorted(strangers)}")
    settings = state.settings
    made = Volume(
        new_id("vol"), dict(given.get("tags", {})), created=given.get("created", time.time() - 86400),
        size=-(-os.path.getsize(given["file"]) // GIB), zone=given.get("zone", settings.zone),
        type=given.get("volume_type", "gp3"), iops=given.get("iops", 3000), throughput=given.get("throughput", 125),
        state=given.get("state", "available"),
    )
    made.file = state.file(f"{made.id}.raw")
    copy_disk(given["file"], made.file)
    os.truncate(made.file, made.size * GIB)
    with state.lock:
        if "attached" in given:
            instance, device = given["attached"]["instance"], given["attached"]["device"]
            own = instance == settings.instance_id
            attached = state.devices.reserve(made.id, made.file, device) if own else None
            if own:
                state.devices.attach(attached)
            made.attachment = Attachment(instance, device, attached, state="attached")
            made.state = "in-use"
        state.region(settings.region).volumes[made.id] = made
    link = made.attachment.attached.name if made.attachment and made.attachment.attached else None
    return {"volume_id": made.id, "link": link}
