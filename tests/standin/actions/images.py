"""Images: found and described."""

import time

from .. import filters, protocol
from ..errors import Refusal, bad_combination, bad_value
from ..state import tag_set
from . import action, find

# Accounts that have an alias for an owner.
ALIASES = {"amazon": ("137112412989", "801119661308"), "aws-marketplace": ("679593333241",)}


def alias_of(owner: str) -> str | None:
    return next((alias for alias, accounts in ALIASES.items() if owner in accounts), None)


def describe(image, account: str) -> dict:
    shown = {
        "ImageId": image.id, "ImageLocation": f"{image.owner}/{image.name}", "State": image.state,
        "OwnerId": image.owner, "Public": image.public, "Name": image.name, "ImageOwnerAlias": alias_of(image.owner),
        "CreationDate": protocol.timestamp(image.created), "ImageType": "machine", "Hypervisor": "xen",
        "RootDeviceType": "ebs", "BlockDeviceMappings": image.mappings, "Tags": tag_set(image.tags) or None,
        **image.about,
    }
    if image.owner == account:
        shown["DeregistrationProtection"] = image.protection
    if image.source is not None:
        shown["SourceImageId"], shown["SourceImageRegion"] = image.source
    if image.deprecated is not None:
        shown["DeprecationTime"] = protocol.timestamp(image.deprecated)
    if image.state == "failed":
        shown["StateReason"] = {"Code": "Client.InvalidSnapshot.NotFound", "Message": "The image could not be made"}
    return shown


def _facts(image) -> dict:
    about = image.about
    volumes = [each["Ebs"] for each in image.mappings if "Ebs" in each]
    return {
        "architecture": about.get("Architecture"), "boot-mode": about.get("BootMode"), "name": image.name,
        "block-device-mapping.delete-on-termination": [each.get("DeleteOnTermination") for each in volumes],
        "block-device-mapping.device-name": [each["DeviceName"] for each in image.mappings],
        "block-device-mapping.snapshot-id": image.snapshots(),
        "block-device-mapping.volume-size": [each.get("VolumeSize") for each in volumes],
        "block-device-mapping.volume-type": [each.get("VolumeType") for each in volumes],
        "block-device-mapping.encrypted": [each.get("Encrypted", False) for each in volumes],
        "creation-date": protocol.timestamp(image.created), "description": about.get("Description"),
        "ena-support": about.get("EnaSupport"), "hypervisor": "xen", "image-id": image.id, "image-type": "machine",
        "is-public": image.public, "owner-alias": alias_of(image.owner), "owner-id": image.owner,
        "platform": about.get("Platform"), "platform-details": about.get("PlatformDetails"),
        "root-device-name": about.get("RootDeviceName"), "root-device-type": "ebs", "state": image.state,
        "sriov-net-support": about.get("SriovNetSupport"), "tpm-support": about.get("TpmSupport"),
        "imds-support": about.get("ImdsSupport"), "usage-operation": about.get("UsageOperation"),
        "source-image-id": image.source and image.source[0], "source-image-region": image.source and image.source[1],
        "virtualization-type": about.get("VirtualizationType"), "manifest-location": f"{image.owner}/{image.name}",
    }


@action("DescribeImages")
def describe_images(call):
    given, account = call.input, call.state.settings.account
    if "ImageIds" in given:
        if "MaxResults" in given:
            raise bad_combination("The parameter imageIds cannot be used with the parameter maxResults")
        things = [find.image(call, each) for each in given["ImageIds"]]
    else:
        things = [each for each in call.region.images.values() if not each.hidden() and find.visible_image(call, each)]
        if not given.get("IncludeDeprecated"):
            # Its owner sees a deprecated image all the same.
            things = [e for e in things if e.owner == account or e.deprecated is None or e.deprecated > time.time()]
        if not given.get("IncludeDisabled"):
            things = [each for each in things if each.state != "disabled"]
    if "Owners" in given:
        owners = set()
        for each in given["Owners"]:
            if each != "self" and each not in ALIASES and not (each.isdigit() and len(each) == 12):
                raise Refusal("InvalidUserID.Malformed", f'Invalid user id: "{each}"')
            owners.update([account] if each == "self" else ALIASES.get(each, [each]))
        things = [each for each in things if each.owner in owners]
    if "ExecutableUsers" in given:
        wanted = given["ExecutableUsers"]
        things = [
            each
            for each in things
            if ("all" in wanted and each.public)
            or ("self" in wanted and account in [one.get("UserId") for one in each.permissions])
        ]
    things = filters.apply(things, given.get("Filters"), _facts)
    find.dry_run(call)
    page, token = filters.page(things, given)
    return {"Images": [describe(each, account) for each in page], "NextToken": token}


@action("DescribeImageAttribute")
def describe_image_attribute(call):
    given = call.input
    image = find.own_image(call, given["ImageId"])
    find.dry_run(call)
    simple = {
        "description": ("Description", image.about.get("Description")),
        "kernel": ("KernelId", image.about.get("KernelId")),
        "ramdisk": ("RamdiskId", image.about.get("RamdiskId")),
        "sriovNetSupport": ("SriovNetSupport", image.about.get("SriovNetSupport")),
        "bootMode": ("BootMode", image.about.get("BootMode")),
        "tpmSupport": ("TpmSupport", image.about.get("TpmSupport")),
        "imdsSupport": ("ImdsSupport", image.about.get("ImdsSupport")),
        "uefiData": ("UefiData", image.uefi_data),
        "lastLaunchedTime": ("LastLaunchedTime", None),
        "deregistrationProtection": ("DeregistrationProtection", image.protection),
    }
    attribute = given["Attribute"]
    if attribute in simple:
        member, value = simple[attribute]
        return {"ImageId": image.id, member: {} if value is None else {"Value": value}}
    if attribute == "launchPermission":
        everyone = [{"Group": "all"}] if image.public else []
        return {"ImageId": image.id, "LaunchPermissions": everyone + image.permissions}
    if attribute == "productCodes":
        return {"ImageId": image.id, "ProductCodes": []}
    if attribute == "blockDeviceMapping":
        return {"ImageId": image.id, "BlockDeviceMappings": image.mappings}
    raise bad_value(f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute.")
