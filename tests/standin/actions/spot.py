"""EC2 Fleets, Spot Fleets and Spot requests that name images themselves, as a test sets them (`POST /_control/users`)."""

from .. import filters
from ..errors import bad_value
from . import action, find


class _Request:
    """For the filters: a Spot request, which has no tags here."""

    tags: dict = {}

    def __init__(self, about: dict):
        self.about = about


@action("DescribeFleets")
def describe_fleets(call):
    given = call.input
    if given.get("FleetIds") or given.get("Filters"):
        raise bad_value("the stand-in describes all fleets")
    find.dry_run(call)
    page, token = filters.page(call.region.fleets, given)
    shown = [{"FleetState": "active", "Type": "maintain", **each} for each in page]
    return {"Fleets": shown, "NextToken": token}


@action("DescribeSpotFleetRequests")
def describe_spot_fleet_requests(call):
    given = call.input
    if given.get("SpotFleetRequestIds"):
        raise bad_value("the stand-in describes all Spot Fleets")
    find.dry_run(call)
    page, token = filters.page(call.region.spot_fleets, given)
    shown = [
        {
            "SpotFleetRequestId": each["SpotFleetRequestId"],
            "SpotFleetRequestState": each.get("SpotFleetRequestState", "active"),
            "SpotFleetRequestConfig": {
                "IamFleetRole": "arn:aws:iam::123456789012:role/fleet", "TargetCapacity": 1,
                "LaunchSpecifications": each["LaunchSpecifications"],
            },
        }
        for each in page
    ]
    return {"SpotFleetRequestConfigs": shown, "NextToken": token}


@action("DescribeSpotInstanceRequests")
def describe_spot_instance_requests(call):
    given = call.input
    things = [_Request({"State": "active", "Type": "one-time", **each}) for each in call.region.spot_requests]
    facts = {"launch.image-id": "ImageId", "state": "State", "type": "Type", "spot-instance-request-id": "SpotInstanceRequestId"}
    things = filters.apply(
        things, given.get("Filters"), lambda each: {name: each.about[key] for name, key in facts.items()}
    )
    find.dry_run(call)
    page, token = filters.page(things, given, least=5)
    shown = [
        {
            **{key: each.about[key] for key in ("SpotInstanceRequestId", "State", "Type")},
            "LaunchSpecification": {"ImageId": each.about["ImageId"]},
        }
        for each in page
    ]
    return {"SpotInstanceRequests": shown, "NextToken": token}
