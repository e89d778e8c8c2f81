"""Regions, zones, the account's attributes and the builder instance."""

from types import SimpleNamespace

from .. import filters
from ..errors import Refusal
from . import action, find
from .volumes import zone_id, zones

REGIONS = ("eu-west-1", "eu-central-1", "us-east-1", "us-west-2", "ap-southeast-2")


def region_names(settings) -> list[str]:
    return sorted({*REGIONS, settings.region})


@action("DescribeRegions")
def describe_regions(call):
    names = region_names(call.state.settings)
    for each in call.input.get("RegionNames", []):
        if each not in names:
            raise Refusal("InvalidParameterValue", f"Invalid region names: [{each}]")
    wanted = call.input.get("RegionNames", names)
    things = [SimpleNamespace(name=each, tags={}) for each in wanted]
    things = filters.apply(
        things,
        call.input.get("Filters"),
        lambda each: {"region-name": each.name, "endpoint": f"ec2.{each.name}.amazonaws.com", "opt-in-status": "opt-in-not-required"},
    )
    find.dry_run(call)
    return {
        "Regions": [
            {"RegionName": each.name, "Endpoint": f"ec2.{each.name}.amazonaws.com", "OptInStatus": "opt-in-not-required"}
            for each in things
        ]
    }


@action("DescribeAvailabilityZones")
def describe_availability_zones(call):
    here = zones(call.region.name)
    for each in call.input.get("ZoneNames", []):
        if each not in here:
            raise Refusal("InvalidParameterValue", f"Invalid availability zone: [{each}]")
    things = [SimpleNamespace(name=each, tags={}) for each in call.input.get("ZoneNames", here)]
    things = filters.apply(
        things,
        call.input.get("Filters"),
        lambda each: {"zone-name": each.name, "zone-id": zone_id(each.name), "region-name": call.region.name,
                      "state": "available", "zone-type": "availability-zone"},
    )
    find.dry_run(call)
    return {
        "AvailabilityZones": [
            {"ZoneName": each.name, "ZoneId": zone_id(each.name), "RegionName": call.region.name, "State": "available",
             "ZoneType": "availability-zone", "OptInStatus": "opt-in-not-required", "GroupName": call.region.name,
             "NetworkBorderGroup": call.region.name, "Messages": []}
            for each in things
        ]
    }


@action("DescribeAccountAttributes")
def describe_account_attributes(call):
    values = {"supported-platforms": ["VPC"], "default-vpc": ["vpc-0123456789abcdef0"], "max-instances": ["20"]}
    wanted = call.input.get("AttributeNames", list(values))
    find.dry_run(call)
    return {
        "AccountAttributes": [
            {"AttributeName": name, "AttributeValues": [{"AttributeValue": value} for value in values[name]]}
            for name in wanted
            if name in values
        ]
    }


def builder(call) -> dict:
    """The builder, as DescribeInstances shows it."""
    settings = call.state.settings
    attached = [
        {"DeviceName": each.attachment.device,
         "Ebs": {"VolumeId": each.id, "Status": "attaching" if each.attachment.state == "attaching" else
                 "attached" if each.attachment.state == "attached" else "detaching",
                 "AttachTime": each.attachment.since, "DeleteOnTermination": False}}
        for each in call.region.volumes.values()
        if each.attachment
    ]
    root = {"DeviceName": "/dev/sda1" if settings.xen else "/dev/xvda",
            "Ebs": {"VolumeId": "vol-0b1d0c2e3f4a50001", "Status": "attached",
                    "AttachTime": call.state.instance_launched, "DeleteOnTermination": True}}
    return {
        "InstanceId": settings.instance_id, "ImageId": "ami-0b1d0c2e3f4a50000", "InstanceType": settings.instance_type,
        "State": {"Code": 16, "Name": "running"}, "Placement": {"AvailabilityZone": settings.zone, "Tenancy": "default"},
        "Architecture": settings.arch, "VirtualizationType": "hvm", "Hypervisor": "xen",
        "RootDeviceName": root["DeviceName"], "RootDeviceType": "ebs", "EnaSupport": True,
        "LaunchTime": call.state.instance_launched, "PrivateIpAddress": "10.0.0.10",
        "BlockDeviceMappings": [root, *attached],
        "IamInstanceProfile": {"Arn": f"arn:aws:iam::{settings.account}:instance-profile/{settings.role}", "Id": "AIPASTANDIN"},
    }
