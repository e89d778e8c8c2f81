"""Filters with EC2's wildcards, and pages."""

import base64
import re

from .errors import Refusal, bad_value, missing


def pattern(text: str) -> re.Pattern:
    """`*` any characters, `?` one, a backslash takes either at its word."""
    parts = re.findall(r"\\.|[*?]|[^\\*?]+|\\", text, re.DOTALL)
    turned = {"*": ".*", "?": "."}
    return re.compile("".join(turned.get(each) or re.escape(each.removeprefix("\\")) for each in parts), re.DOTALL)


def apply(things: list, filters: list, facts) -> list:
    """The things that meet every filter. `facts(thing)` gives filter names and the values that one has
    (a value, a list of them, or None); a filter that it does not know is refused."""
    wanted = []
    for each in filters or []:
        if "Name" not in each:
            raise missing("Filter.Name")
        if not each.get("Values"):
            raise bad_value(f"The filter '{each['Name']}' has no value")
        wanted.append((each["Name"], [pattern(value) for value in each["Values"]]))
    kept = []
    for thing in things:
        about = facts(thing)
        if all(_meets(about, thing.tags, name, patterns) for name, patterns in wanted):
            kept.append(thing)
    if not things:  # still refuse what is unknown, as far as can be told
        for name, _ in wanted:
            if not re.fullmatch(r"[a-z-]+(\.[a-z-]+)*|tag:.*", name):
                raise bad_value(f"The filter '{name}' is invalid")
    return kept


def _meets(about: dict, tags: dict, name: str, patterns: list) -> bool:
    if name.startswith("tag:"):
        values = tags.get(name[4:])
    elif name == "tag-key":
        values = list(tags)
    elif name in about:
        values = about[name]
    else:
        raise bad_value(f"The filter '{name}' is invalid")
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, bool):
            value = str(value).lower()
        if value is not None and any(each.fullmatch(str(value)) for each in patterns):
            return True
    return False


def page(things: list, given: dict, least: int = 1, most: int = 1000) -> tuple[list, str | None]:
    """One page, and the token of the next one."""
    size = given.get("MaxResults")
    if size is not None and size < least:
        raise bad_value(f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value greater than {least - 1}.")
    start = 0
    if given.get("NextToken"):
        try:
            start = int(base64.b64decode(given["NextToken"], validate=True).decode().removeprefix("from:"))
        except ValueError:
            raise Refusal("InvalidNextToken", "The token is not valid") from None
    end = start + min(size or len(things) or 1, most)
    token = base64.b64encode(f"from:{end}".encode()).decode() if end < len(things) else None
    return things[start:end], token
