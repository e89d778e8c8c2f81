"""The pages by which a test steers the stand-in and looks into it: JSON under `/_control/`."""

import json
import urllib.parse

from . import s3, seed
from .actions import parameters, users
from .actions.attachments import unstick
from .actions.images import describe as describe_image
from .actions.snapshots import describe as describe_snapshot
from .actions.volumes import describe as describe_volume


def answer(state, method: str, target: str, body: bytes) -> tuple[int, object]:
    path, _, query = target.partition("?")
    asked = dict(urllib.parse.parse_qsl(query))
    page = PAGES.get((method, path.removeprefix("/_control/")))
    if page is None:
        return 404, {"error": f"no page {method} {path}"}
    try:
        return 200, page(state, asked, json.loads(body) if body else {})
    except (KeyError, ValueError, TypeError, OSError) as error:
        return 400, {"error": f"{type(error).__name__}: {error}"}


def _faults(state, asked, document):
    documents = document if isinstance(document, list) else [document]
    return {"ids": [state.faults.add(each) for each in documents]}


def _clear_faults(state, asked, document):
    state.faults.clear()
    return {}


def _requests(state, asked, document):
    return state.requests.chosen(
        asked.get("action"), asked.get("service"), int(asked.get("at_least", 0)), float(asked.get("wait", 0))
    )


def _clear_requests(state, asked, document):
    state.requests.clear()
    return {}


def _held(state, asked, document):
    return state.faults.held(float(asked.get("wait", 0)))


def _release(state, asked, document):
    """`drop` ends the held calls with a reset; those held before they were carried out never are."""
    how = "drop" if document.get("drop") else "go"
    return {"released": state.faults.release(how, document.get("request"))}


def _latencies(state, asked, document):
    strangers = set(document) - set(state.settings.latencies)
    if strangers:
        raise ValueError(f"no latency {sorted(strangers)}")
    state.settings.latencies.update(document)
    return state.settings.latencies


def _settings(state, asked, document):
    """`instance_id`: from now on the builder is another instance."""
    kinds = {"consistency": float, "instance_id": str}
    strangers = set(document) - set(kinds)
    if strangers:
        raise ValueError(f"no setting {sorted(strangers)}")
    state.settings.instances.add(state.settings.instance_id)
    for name, value in document.items():
        setattr(state.settings, name, kinds[name](value))
    return {name: getattr(state.settings, name) for name in kinds}


def _age(state, asked, document):
    """Makes a volume, snapshot or image `seconds` older."""
    with state.lock:
        for region in state.regions.values():
            for all_of_kind in (region.volumes, region.snapshots, region.images):
                if document["id"] in all_of_kind:
                    all_of_kind[document["id"]].created -= float(document["seconds"])
                    return {}
    raise ValueError(f"there is no {document['id']}")


def _unstick(state, asked, document):
    """What a `stuck` fault holds up goes on: as when EC2's own trouble is over."""
    with state.lock:
        for region in state.regions.values():
            for volume in region.volumes.values():
                unstick(state, volume)
            for image in region.images.values():
                if image.state == "pending" and image.source is None:
                    image.state = "available"
    return {}


def _reveal(state, asked, document):
    """What is new is known to every call from now on."""
    with state.lock:
        for region in state.regions.values():
            for thing in region.resources():
                thing.hidden_until, thing.hidden_calls = 0.0, 0
    return {}


def _seed(state, asked, document):
    return seed.image(state, document)


def _parameters(state, asked, document):
    with state.lock:
        region = state.region(document.pop("region", state.settings.region))
        for name, given in document["parameters"].items():
            parameters.seed(region, name, given)
    return {}


def _volumes(state, asked, document):
    return seed.volume(state, document)


def _users(state, asked, document):
    """What refers to images: see `actions/users.py`."""
    with state.lock:
        users.seed(state.region(document.pop("region", state.settings.region)), document)
    return {}


def _objects(state, asked, document):
    with state.lock:
        return s3.seed(state, document)


def _forget(state, asked, document):
    """An image goes, and its snapshots stay."""
    with state.lock:
        state.region(document.get("region", state.settings.region)).images.pop(document["image"])
    return {}


def _state(state, asked, document):
    """All there is, in the form of Describe answers, with the files behind it and the devices."""
    with state.lock:
        return {
            "troubles": state.clock.troubles,
            "regions": {name: _region(state, region) for name, region in state.regions.items()},
        }


def _region(state, region) -> dict:
    volumes = []
    for each in region.volumes.values():
        attached = each.attachment.attached if each.attachment else None
        volumes.append(
            {**describe_volume(each), "File": each.file, "Token": each.token,
             "HostDevice": attached.device if attached else None, "Link": attached.name if attached else None}
        )
    return {
        "volumes": volumes,
        "snapshots": [
            {**describe_snapshot(each), "File": each.file, "Permissions": each.permissions} for each in region.snapshots.values()
        ],
        "images": [
            {**describe_image(each, state.settings.account), "UefiData": each.uefi_data, "Permissions": each.permissions}
            for each in region.images.values()
        ],
        "parameters": region.parameters,
        "parameters_about": region.parameters_about,
    }


PAGES = {
    ("POST", "faults"): _faults,
    ("GET", "faults"): lambda state, asked, document: state.faults.documents(),
    ("DELETE", "faults"): _clear_faults,
    ("GET", "requests"): _requests,
    ("DELETE", "requests"): _clear_requests,
    ("GET", "held"): _held,
    ("POST", "release"): _release,
    ("POST", "latencies"): _latencies,
    ("POST", "settings"): _settings,
    ("POST", "unstick"): _unstick,
    ("POST", "reveal"): _reveal,
    ("POST", "age"): _age,
    ("POST", "seed"): _seed,
    ("POST", "parameters"): _parameters,
    ("POST", "volumes"): _volumes,
    ("POST", "users"): _users,
    ("POST", "objects"): _objects,
    ("POST", "forget"): _forget,
    ("GET", "state"): _state,
}
