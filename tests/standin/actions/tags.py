"""Tags: at creation, afterwards, and asked for."""

from .. import filters
from ..errors import Refusal, bad_value, missing
from . import action
from . import find

KINDS = {"vol": "volume", "snap": "snapshot", "ami": "image", "i": "instance"}
MOST = 50


def check(tags: list) -> dict:
    """Tags as a dict, refused where EC2 refuses them."""
    kept = {}
    for each in tags:
        key, value = each.get("Key"), each.get("Value", "")
        if not key:
            raise missing("Tag.Key")
        if key in kept:
            raise bad_value(f"Duplicate tag key '{key}' specified.")
        if key.lower().startswith("aws:"):
            raise bad_value("Tag keys starting with 'aws:' are reserved for internal use")
        if len(key) > 128:
            raise bad_value(f"Tag key exceeds the maximum length of 128 characters: '{key}'")
        if len(value) > 256:
            raise bad_value(f"Tag value exceeds the maximum length of 256 characters: '{value}'")
        kept[key] = value
    if len(kept) > MOST:
        raise Refusal("TagLimitExceeded", f"More than {MOST} tags specified")
    return kept


def at_creation(call, *kinds: str) -> dict:
    """The tags of TagSpecifications for the first of the kinds that this action may tag."""
    return each_at_creation(call, *kinds).get(kinds[0], {})


def each_at_creation(call, *kinds: str) -> dict:
    """The tags of TagSpecifications by kind."""
    kept = {}
    for each in call.input.get("TagSpecifications", []):
        kind = each.get("ResourceType")
        if kind is None:
            raise missing("TagSpecification.ResourceType")
        if kind not in kinds:
            raise bad_value(f"'{kind}' is not a valid taggable resource type for this operation.")
        if kind in kept:
            raise bad_value(f"Duplicate resource type '{kind}' specified in tag specifications.")
        if not each.get("Tags"):
            raise bad_value("Tag specification must have at least one tag")
        kept[kind] = check(each["Tags"])
    return kept


def resource(call, identifier: str):
    kind = identifier.split("-")[0]
    if kind == "vol":
        return find.volume(call, identifier)
    if kind == "snap":
        return find.own_snapshot(call, identifier)
    if kind == "ami":
        return find.own_image(call, identifier)
    raise Refusal("InvalidID", f"The ID '{identifier}' is not valid")


@action("CreateTags")
def create_tags(call):
    things = [resource(call, each) for each in call.input["Resources"]]
    tags = check(call.input["Tags"])
    if not tags:
        raise missing("Tag")
    for thing in things:
        if len({**thing.tags, **tags}) > MOST:
            raise Refusal("TagLimitExceeded", f"The maximum number of tags of {thing.id} is {MOST}")
    find.dry_run(call)
    for thing in things:
        thing.tags.update(tags)


@action("DeleteTags")
def delete_tags(call):
    things = [resource(call, each) for each in call.input["Resources"]]
    find.dry_run(call)
    for thing in things:
        if "Tags" not in call.input:
            thing.tags.clear()
        for each in call.input.get("Tags", []):
            # Without a value any goes; with one, only that.
            if each.get("Value", thing.tags.get(each["Key"])) == thing.tags.get(each["Key"]):
                thing.tags.pop(each["Key"], None)


class _Tag:
    def __init__(self, thing, key):
        self.thing, self.key, self.value = thing, key, thing.tags[key]
        self.tags = {key: self.value}
        self.kind = KINDS[thing.id.split("-")[0]]


@action("DescribeTags")
def describe_tags(call):
    every = [_Tag(thing, key) for thing in call.region.resources() if not thing.hidden() for key in thing.tags]
    chosen = filters.apply(
        every,
        call.input.get("Filters"),
        lambda tag: {"resource-id": tag.thing.id, "resource-type": tag.kind, "key": tag.key, "value": tag.value},
    )
    find.dry_run(call)
    page, token = filters.page(chosen, call.input, least=5)
    shown = [{"Key": t.key, "Value": t.value, "ResourceId": t.thing.id, "ResourceType": t.kind} for t in page]
    return {"Tags": shown, "NextToken": token}
