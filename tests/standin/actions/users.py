"""What refers to images: instances, launch templates, Auto Scaling (and in `spot.py` fleets and Spot requests), as a test
sets them (`POST /_control/users`)."""

import re
import time

from .. import filters
from ..errors import Refusal, bad_combination, bad_value, missing
from ..state import tag_set
from . import action, find, places

INSTANCE_STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
WANTED = {
    "instances": {"InstanceId", "ImageId", "State", "Tags"},
    "templates": {"LaunchTemplateId", "LaunchTemplateName", "Versions"},
    "launch_configurations": {"LaunchConfigurationName", "ImageId"},
    "groups": {"AutoScalingGroupName", "LaunchConfigurationName", "LaunchTemplate", "MixedInstancesPolicy"},
    "fleets": {"FleetId", "FleetState", "LaunchTemplateConfigs"},
    "spot_fleets": {"SpotFleetRequestId", "SpotFleetRequestState", "LaunchSpecifications"},
    "spot_requests": {"SpotInstanceRequestId", "State", "Type", "ImageId"},
}


def seed(region, given: dict) -> None:
    """Adds what a test names, in the forms of Describe answers. A template's `Versions` is a list of image ids (or
    `resolve:ssm:NAME`), the first is version 1."""
    for kind, things in given.items():
        if kind not in WANTED:
            raise ValueError(f"nothing that uses images is called {kind}")
        for thing in things:
            strangers = set(thing) - WANTED[kind]
            if strangers:
                raise ValueError(f"{kind} have no {sorted(strangers)}")
            if kind == "instances" and thing.get("State", "running") not in INSTANCE_STATES:
                raise ValueError(f"no instance is {thing['State']}")
            getattr(region, kind).append(thing)


class _Instance:
    def __init__(self, shown: dict):
        self.shown = shown
        self.id = shown["InstanceId"]
        self.tags = {each["Key"]: each["Value"] for each in shown.get("Tags") or []}

    def facts(self) -> dict:
        state = self.shown["State"]
        return {
            "instance-id": self.id, "image-id": self.shown["ImageId"], "instance-state-name": state["Name"],
            "instance-state-code": state["Code"], "instance-type": self.shown["InstanceType"],
            "availability-zone": self.shown.get("Placement", {}).get("AvailabilityZone"),
            "architecture": self.shown.get("Architecture"),
        }


def _seeded(about: dict) -> _Instance:
    state = about.get("State", "running")
    return _Instance({
        "InstanceId": about["InstanceId"], "ImageId": about["ImageId"], "InstanceType": "m7i.large",
        "State": {"Code": INSTANCE_STATES[state], "Name": state}, "Tags": tag_set(about.get("Tags", {})) or None,
    })


@action("DescribeInstances")
def describe_instances(call):
    given, settings = call.input, call.state.settings
    things = [_Instance(places.builder(call))] if call.region.name == settings.region else []
    things += [_seeded(each) for each in call.region.instances]
    if "InstanceIds" in given:
        if "MaxResults" in given:
            raise bad_combination("The parameter instancesSet cannot be used with the parameter maxResults")
        known = {each.id for each in things}
        for each in given["InstanceIds"]:
            if each not in known:
                find.instance(call, each)
        things = [each for each in things if each.id in given["InstanceIds"]]
    things = filters.apply(things, given.get("Filters"), lambda each: each.facts())
    find.dry_run(call)
    page, token = filters.page(things, given, least=5)
    shown = [
        {"ReservationId": f"r-{each.id.removeprefix('i-')}", "OwnerId": settings.account, "Instances": [each.shown]}
        for each in page
    ]
    return {"Reservations": shown, "NextToken": token}


def _template_facts(template: dict) -> dict:
    return {"launch-template-name": template["LaunchTemplateName"], "create-time": None}


class _Tagless:
    """For the filters: a thing with no tags."""

    tags: dict = {}

    def __init__(self, about: dict):
        self.about = about


@action("DescribeLaunchTemplates")
def describe_launch_templates(call):
    given = call.input
    things = [_Tagless(each) for each in call.region.templates]
    things = filters.apply(things, given.get("Filters"), lambda each: _template_facts(each.about))
    find.dry_run(call)
    page, token = filters.page(things, given, most=200)
    shown = [
        {
            "LaunchTemplateId": each.about["LaunchTemplateId"], "LaunchTemplateName": each.about["LaunchTemplateName"],
            "CreateTime": call.state.instance_launched, "DefaultVersionNumber": 1,
            "LatestVersionNumber": len(each.about["Versions"]),
        }
        for each in page
    ]
    return {"LaunchTemplates": shown, "NextToken": token}


@action("DescribeLaunchTemplateVersions")
def describe_launch_template_versions(call):
    given = call.input
    if "LaunchTemplateId" in given and "LaunchTemplateName" in given:
        raise bad_combination("Only one of launchTemplateId and launchTemplateName may be given.")
    if "LaunchTemplateId" not in given and "LaunchTemplateName" not in given:
        if not set(given.get("Versions", [])) & {"$Latest", "$Default"}:
            raise missing("LaunchTemplateId")
        raise Refusal("UnsupportedOperation", "the stand-in describes the versions of one template", 501)
    template = next(
        (
            each
            for each in call.region.templates
            if each["LaunchTemplateId"] == given.get("LaunchTemplateId")
            or each["LaunchTemplateName"] == given.get("LaunchTemplateName")
        ),
        None,
    )
    if template is None:
        code = "InvalidLaunchTemplateId.NotFound" if "LaunchTemplateId" in given else "InvalidLaunchTemplateName.NotFoundException"
        raise Refusal(code, "The specified launch template does not exist.")
    find.dry_run(call)
    named = {"$Latest": str(len(template["Versions"])), "$Default": "1"}
    wanted = {named.get(each, each) for each in given.get("Versions", [])}
    versions = [
        {
            "LaunchTemplateId": template["LaunchTemplateId"], "LaunchTemplateName": template["LaunchTemplateName"],
            "VersionNumber": number, "DefaultVersion": number == 1,
            "LaunchTemplateData": {"ImageId": _image_of(call, image)},
        }
        for number, image in enumerate(template["Versions"], 1)
        if not wanted or str(number) in wanted
    ]
    page, token = filters.page(versions, given, most=200)
    return {"LaunchTemplateVersions": page, "NextToken": token}


def _image_of(call, image: str) -> str:
    """The image id; a parameter's, where asked for."""
    named = re.fullmatch(r"resolve:ssm:([^:]+)(:.*)?", image)
    if named is None or not call.input.get("ResolveAlias"):
        return image
    if named[1] not in call.region.parameters:
        raise Refusal("InvalidParameterValue", f"The parameter {named[1]} cannot be resolved")
    return call.region.parameters[named[1]]


def _records(things: list, given: dict) -> tuple[list, str | None]:
    size = given.get("MaxRecords", 50)
    if not 1 <= size <= 100:
        raise Refusal("ValidationError", "MaxRecords must be from 1 to 100")
    return filters.page(things, {"MaxResults": size, "NextToken": given.get("NextToken")})


@action("DescribeLaunchConfigurations", "autoscaling")
def describe_launch_configurations(call):
    wanted = call.input.get("LaunchConfigurationNames")
    things = [e for e in call.region.launch_configurations if not wanted or e["LaunchConfigurationName"] in wanted]
    page, token = _records(things, call.input)
    shown = [{**each, "InstanceType": "m7i.large", "CreatedTime": call.state.instance_launched} for each in page]
    return {"LaunchConfigurations": shown, "NextToken": token}


@action("DescribeAutoScalingGroups", "autoscaling")
def describe_auto_scaling_groups(call):
    given = call.input
    wanted = given.get("AutoScalingGroupNames")
    if given.get("Filters"):
        raise bad_value("the stand-in filters no groups")
    things = [e for e in call.region.groups if not wanted or e["AutoScalingGroupName"] in wanted]
    page, token = _records(things, given)
    common = {
        "MinSize": 0, "MaxSize": 1, "DesiredCapacity": 0, "DefaultCooldown": 300, "HealthCheckType": "EC2",
        "AvailabilityZones": [call.state.settings.zone], "CreatedTime": time.time(),
    }
    return {"AutoScalingGroups": [{**common, **each} for each in page], "NextToken": token}
