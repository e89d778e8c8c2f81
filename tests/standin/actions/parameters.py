"""SSM's parameters, found and read many at a time."""

from .. import filters
from ..errors import Refusal
from . import action


def about(call, name: str) -> dict:
    """A parameter as GetParameter shows it."""
    value = call.region.parameters[name]
    arn = f"arn:aws:ssm:{call.region.name}:{call.state.settings.account}:parameter{name}"
    kind = "aws:ec2:image" if value.startswith("ami-") else "text"
    return {"Name": name, "Type": "String", "Value": value, "Version": 1, "ARN": arn, "DataType": kind}


def _is_public(name: str) -> bool:
    """Amazon's own are read by name, and listed under their path alone."""
    return name.startswith("/aws/")


@action("DescribeParameters", "ssm")
def describe_parameters(call):
    given = call.input
    things = [about(call, name) for name in sorted(call.region.parameters) if not _is_public(name)]
    for each in given.get("ParameterFilters", []):
        key, values = each["Key"], each.get("Values", [])
        if key not in ("Name", "DataType") or each.get("Option", "Equals") != "Equals":
            raise Refusal("InvalidFilterKey", f"the stand-in filters by Name or DataType, not {key}")
        things = [thing for thing in things if thing[key] in values]
    size = given.get("MaxResults", 10)
    if not 1 <= size <= 50:
        raise Refusal("ValidationException", "MaxResults must be from 1 to 50")
    page, token = filters.page(things, {"MaxResults": size, "NextToken": given.get("NextToken")})
    shown = [{name: thing[name] for name in thing if name != "Value"} for thing in page]
    return {"Parameters": shown, "NextToken": token} if token else {"Parameters": shown}


@action("GetParameters", "ssm")
def get_parameters(call):
    names = call.input["Names"]
    if not 1 <= len(names) <= 10:
        raise Refusal("ValidationException", "names must have 1 to 10 members")
    if len(set(names)) < len(names):
        raise Refusal("ValidationException", "names must differ")
    known = [name for name in names if name in call.region.parameters]
    return {
        "Parameters": [about(call, name) for name in known],
        "InvalidParameters": [name for name in names if name not in known],
    }
