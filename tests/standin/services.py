"""How each service's requests look and are answered: EC2's and STS's Query protocols, SSM's JSON."""

import json
import uuid
from xml.sax.saxutils import escape

from . import protocol
from .errors import Refusal, missing


class Query:
    """A form in, XML out."""

    content_type = "text/xml;charset=UTF-8"

    def __init__(self, name: str):
        self.name = name

    def read(self, headers, body: bytes) -> tuple[str, dict]:
        parameters = protocol.form(body)
        if self.name != "ec2":  # lists are NAME.member.N everywhere but in EC2
            parameters = {name.replace(".member.", "."): value for name, value in parameters.items()}
        return parameters.get("Action", ""), parameters

    def input(self, parameters: dict, operation) -> dict:
        return protocol.parse(parameters, operation.input_shape)

    def answer(self, operation, output) -> bytes:
        if self.name == "ec2":
            return protocol.answer(operation, output or {}, str(uuid.uuid4()))
        inner = protocol.members(output or {}, operation.output_shape, item="member")
        space = operation.service_model.metadata["xmlNamespace"]
        return (
            f'<{operation.name}Response xmlns="{space}"><{operation.name}Result>{inner}</{operation.name}Result>'
            f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{operation.name}Response>"
        ).encode()

    def refuse(self, error: Refusal) -> bytes:
        if self.name == "ec2":
            return protocol.refusal(error, str(uuid.uuid4()))
        return (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(error.code)}</Code><Message>{escape(error.message)}"
            f"</Message></Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
        ).encode()


class Json:
    """A JSON document in, one out; the action stands in a header."""

    content_type = "application/x-amz-json-1.1"

    def __init__(self, name: str):
        self.name = name

    def read(self, headers, body: bytes) -> tuple[str, dict]:
        action = (headers.get("X-Amz-Target") or "").rpartition(".")[2]
        try:
            document = json.loads(body or b"{}")
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Refusal("SerializationException", "The request is not a JSON object")
        return action, document

    def input(self, parameters: dict, operation) -> dict:
        shape = operation.input_shape
        for name in parameters:
            if name not in shape.members:
                raise protocol.unknown(name)
        for name in shape.required_members:
            if name not in parameters:
                raise missing(name)
        return parameters

    def answer(self, operation, output) -> bytes:
        return json.dumps(output or {}).encode()

    def refuse(self, error: Refusal) -> bytes:
        return json.dumps({"__type": error.code, "message": error.message}).encode()


SERVICES = {"ec2": Query("ec2"), "sts": Query("sts"), "autoscaling": Query("autoscaling"), "ssm": Json("ssm")}
