"""SSM's parameters: found, read, put with type and data type, and tagged."""

import re
import time

from .. import filters
from ..errors import Refusal
from ..state import tag_set
from . import action, find

NAME = re.compile(r"[A-Za-z0-9_.-]+|(/[A-Za-z0-9_.-]+){1,15}")
ARN = re.compile(r"arn:aws:ssm:(?P<region>[a-z0-9-]+):(?P<account>\d{12}|):parameter/(?P<name>[^:]+)(:(?P<selector>.+))?")
IMAGE = re.compile(r"ami-([0-9a-f]{8}|[0-9a-f]{17})")
TAG = re.compile(r"[\w\s.:/=+\-@]*")


def _invalid(message: str) -> Refusal:
    return Refusal("ValidationException", message)


def about(region, name: str) -> dict:
    """What there is of a parameter besides its value; one that a test set has but its defaults."""
    value = region.parameters[name]
    kind = "aws:ec2:image" if IMAGE.fullmatch(value) else "text"
    default = {"Type": "String", "DataType": kind, "Version": 1, "Tags": {}, "LastModifiedDate": time.time()}
    return region.parameters_about.setdefault(name, default)


def describe(call, name: str) -> dict:
    region, facts = call.region, about(call.region, name)
    arn = f"arn:aws:ssm:{region.name}:{call.state.settings.account}:parameter/{name.removeprefix('/')}"
    shown = {each: facts[each] for each in ("Type", "DataType", "Version", "LastModifiedDate")}
    return {"Name": name, "Value": region.parameters[name], "ARN": arn, **shown}


def _is_public(name: str) -> bool:
    """Amazon's own are read by name, and listed under their path alone."""
    return name.startswith("/aws/")


@action("DescribeParameters", "ssm")
def describe_parameters(call):
    given = call.input
    things = [describe(call, name) for name in sorted(call.region.parameters) if not _is_public(name)]
    for each in given.get("ParameterFilters", []):
        key, values = each["Key"], each.get("Values", [])
        if key not in ("Name", "DataType", "Type") or each.get("Option", "Equals") != "Equals":
            raise Refusal("InvalidFilterKey", f"the stand-in filters by Name, DataType or Type, not {key}")
        things = [thing for thing in things if thing[key] in values]
    size = given.get("MaxResults", 10)
    if not 1 <= size <= 50:
        raise Refusal("ValidationException", "MaxResults must be from 1 to 50")
    page, token = filters.page(things, {"MaxResults": size, "NextToken": given.get("NextToken")})
    shown = [{name: thing[name] for name in thing if name != "Value"} for thing in page]
    return {"Parameters": shown, "NextToken": token} if token else {"Parameters": shown}


def seed(region, name: str, given) -> None:
    """Sets a parameter: a value, or `value` with `type`, `data_type` and `labels`; with `account` it is another's that
    shares it."""
    given = {"value": given} if isinstance(given, str) else given
    strangers = set(given) - {"value", "type", "data_type", "labels", "account"}
    if strangers:
        raise ValueError(f"a parameter to seed has no {sorted(strangers)}")
    if "account" in given:
        region.shared_parameters[given["account"], name] = {"Type": "String", "Value": given["value"]}
        return
    there = name in region.parameters
    version = about(region, name)["Version"] + 1 if there else 1
    region.parameters[name] = given["value"]
    region.parameters_about.pop(name, None)
    about(region, name).update({"Version": version, "Type": given.get("type", "String")})
    if "data_type" in given:
        about(region, name)["DataType"] = given["data_type"]
    remember(region, name, given.get("labels", []))


def remember(region, name: str, labels=()) -> None:
    """Keeps the version that a parameter has now. A label is on one version at a time."""
    versions = region.parameter_versions.setdefault(name, [])
    for each in versions:
        each["Labels"] -= set(labels)
    versions.append({"Version": about(region, name)["Version"], "Value": region.parameters[name], "Labels": set(labels)})


def _shared(call, found: re.Match) -> dict:
    """One that another account shares, which is named by its ARN alone."""
    for name in (f"/{found['name']}", found["name"]):
        shared = call.region.shared_parameters.get((found["account"], name))
        if shared is not None:
            return {"Name": name, "ARN": found[0], "DataType": "text", "Version": 1, **shared}
    raise Refusal("ParameterNotFound", "")


@action("GetParameter", "ssm")
def get_parameter(call):
    asked, region = call.input["Name"], call.region
    found = ARN.fullmatch(asked)
    if found:
        if found["region"] != region.name:
            raise _invalid(f"Parameter ARN: {asked} is of another Region")
        if found["account"] not in ("", call.state.settings.account):
            return {"Parameter": _shared(call, found)}
        asked = found["name"] if found["name"] in region.parameters else f"/{found['name']}"
        asked += f":{found['selector']}" if found["selector"] else ""
    name, _, selector = asked.partition(":")
    if name not in region.parameters:
        raise Refusal("ParameterNotFound", "")
    shown = describe(call, name)
    if selector:
        versions = region.parameter_versions.get(name) or [{"Version": 1, "Value": shown["Value"], "Labels": set()}]
        chosen = [each for each in versions if selector == str(each["Version"]) or selector in each["Labels"]]
        if not chosen:
            raise Refusal("ParameterVersionNotFound", f"Systems Manager could not find version {selector} of {name}.")
        shown.update({"Version": chosen[0]["Version"], "Value": chosen[0]["Value"], "Selector": f":{selector}"})
    if shown["Type"] == "SecureString" and not call.input.get("WithDecryption"):
        shown["Value"] = "AQICAHh" + shown["Value"].encode().hex()
    return {"Parameter": shown}


@action("GetParameters", "ssm")
def get_parameters(call):
    names = call.input["Names"]
    if not 1 <= len(names) <= 10:
        raise _invalid("1 validation error detected: Value at 'names' failed to satisfy constraint: 1 to 10")
    if len(set(names)) != len(names):
        raise _invalid("Duplicate parameter names")
    known = [each for each in names if each in call.region.parameters]
    return {
        "Parameters": [describe(call, each) for each in known],
        "InvalidParameters": [each for each in names if each not in known],
    }


@action("PutParameter", "ssm")
def put_parameter(call):
    given, region = call.input, call.region
    name, value = given["Name"], given["Value"]
    if not NAME.fullmatch(name) or re.match(r"/?(aws|ssm)", name, re.IGNORECASE):
        raise _invalid(f"Parameter name: can't be {name}: letters, digits, _ . - and / alone, neither aws nor ssm first")
    there = name in region.parameters
    if "Tags" in given and given.get("Overwrite"):
        raise _invalid("Invalid request: tags and overwrite can't be used together.")
    if there and not given.get("Overwrite"):
        raise Refusal("ParameterAlreadyExists", "The parameter already exists.")
    kind = given.get("Type") or (about(region, name)["Type"] if there else None)
    if kind is None:
        raise _invalid("A parameter type is required when you create a parameter.")
    if there and about(region, name)["Type"] != kind:
        raise Refusal("HierarchyTypeMismatchException", f"The parameter {name} is of another type")
    data = given.get("DataType", "text")
    if data not in ("text", "aws:ec2:image", "aws:ssm:integration"):
        raise _invalid(f"The following data type is not supported: {data}")
    if data == "aws:ec2:image" and (kind != "String" or not IMAGE.fullmatch(value)):
        raise _invalid(f"The value {value} is no AMI id, which the data type aws:ec2:image asks for")
    version = about(region, name)["Version"] + 1 if there else 1
    if data == "aws:ec2:image" and not _available(call, value):
        # The call succeeds; the validation comes later, and the parameter stays as it was.
        return {"Version": version, "Tier": "Standard"}
    marks = about(region, name)["Tags"] if there else _tags(given.get("Tags", []))
    region.parameters[name] = value
    region.parameters_about[name] = {
        "Type": kind, "DataType": data, "Version": version, "Tags": marks, "LastModifiedDate": time.time(),
    }
    remember(region, name)
    return {"Version": version, "Tier": "Standard"}


def _available(call, value: str) -> bool:
    image = call.region.images.get(value)
    return image is not None and image.state == "available" and find.visible_image(call, image)


def _tags(given: list) -> dict:
    for each in given:
        if not TAG.fullmatch(each["Key"]) or not TAG.fullmatch(each["Value"]) or len(each["Value"]) > 256:
            raise _invalid(f"The tag {each['Key']} holds a character that no tag of SSM has")
    if len(given) > 50:
        raise Refusal("TooManyTagsError", "")
    return {each["Key"]: each["Value"] for each in given}


def _tagged(call) -> dict:
    if call.input["ResourceType"] != "Parameter":
        raise Refusal("InvalidResourceType", "")
    name = call.input["ResourceId"]
    if name not in call.region.parameters:
        raise Refusal("InvalidResourceId", "")
    return about(call.region, name)["Tags"]


@action("AddTagsToResource", "ssm")
def add_tags_to_resource(call):
    _tagged(call).update(_tags(call.input["Tags"]))
    return {}


@action("ListTagsForResource", "ssm")
def list_tags_for_resource(call):
    return {"TagList": tag_set(_tagged(call))}
