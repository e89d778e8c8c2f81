"""What each action does: one function an action, found by service and name in ACTIONS.

A function takes a [`Call`] and returns the output by the model's member names, or raises a Refusal. It runs
with the state's lock held. To add an action, write its function with `@action("Name")` in the file of its
subject and import a new file below: parsing, validation, faults, the log and the answer need nothing more."""

from dataclasses import dataclass

ACTIONS = {}


@dataclass
class Call:
    """One validated request."""

    state: object
    service: str
    action: str
    region: object
    input: dict
    faults: list

    def fault(self, kind: str):
        """The fault of an effect that this call meets, if any."""
        return next((each for each in self.faults if each.kind == kind), None)


def action(name: str, service: str = "ec2"):
    def keep(function):
        ACTIONS[service, name] = function
        return function

    return keep


from . import (  # noqa: E402, F401
    attachments,
    copies,
    identity,
    images,
    parameters,
    places,
    registration,
    retirement,
    sharing,
    snapshots,
    spot,
    tags,
    users,
    volumes,
)
