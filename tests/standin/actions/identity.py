"""The small parts of other services that a bake needs: who am I (STS), and one parameter (SSM)."""

from ..errors import Refusal
from . import action, parameters


@action("GetCallerIdentity", "sts")
def get_caller_identity(call):
    settings = call.state.settings
    return {
        "Account": settings.account,
        "UserId": f"AROASTANDIN:{settings.instance_id}",
        "Arn": f"arn:aws:sts::{settings.account}:assumed-role/{settings.role}/{settings.instance_id}",
    }


@action("GetParameter", "ssm")
def get_parameter(call):
    name = call.input["Name"]
    if name not in call.region.parameters:
        raise Refusal("ParameterNotFound", "")
    return {"Parameter": parameters.about(call, name)}
