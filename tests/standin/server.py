"""HTTP: one request through authentication, faults, validation and its action, to an answer."""

import http.server
import json
import socket
import struct
import sys
import time
import traceback

from . import control, s3, sigv4
from .actions import ACTIONS, Call
from .actions.places import region_names
from .errors import Refusal
from .faults import EFFECTS, REFUSALS
from .services import SERVICES


class Reset(Exception):
    """The connection is to be reset instead of an answer."""


class Handler(http.server.BaseHTTPRequestHandler):
    """What the AWS endpoint and the metadata service share."""

    protocol_version = "HTTP/1.1"
    # One segment an answer: headers and body wait for no acknowledgement.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def version_string(self):
        return "standin"

    def body(self) -> bytes:
        if (self.headers.get("Transfer-Encoding") or "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status: int, content_type: str, document: bytes, extra: dict | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(document)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(document)
        self.wfile.flush()

    def reset(self) -> None:
        """Closes with a reset, as a connection that broke: no answer, no orderly end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def meet_transport(self, faults: list, when: str, entry: dict) -> None:
        """Slow, held, reset and bare answers of one moment, in the order they were set."""
        requests, state = self.server.state.requests, self.server.state
        for fault in faults:
            if fault.when != when:
                continue
            requests.note(entry, fault=fault.kind)
            if fault.kind == "slow":
                time.sleep(fault.seconds)
            elif fault.kind == "hold" and not state.faults.hold(entry, when):
                raise Reset
            elif fault.kind == "reset":
                raise Reset
            elif fault.kind == "bare":
                raise Refusal("", "", fault.status if fault.status >= 500 else 502)
            elif fault.kind in REFUSALS:
                raise fault.refusal(entry["service"], entry["action"])


class Endpoint(Handler):
    """The AWS endpoint, and the control pages beside it."""

    def do_GET(self):
        if self.path.startswith("/_control/"):
            return self._control()
        try:
            s3.answer(self)
        except Reset:
            self.reset()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def do_DELETE(self):
        self._control()

    def _control(self):
        status, document = control.answer(self.server.state, self.command, self.path, self.body())
        self.reply(status, "application/json", json.dumps(document).encode())

    def do_POST(self):
        if self.path.startswith("/_control/"):
            return self._control()
        body = self.body()
        service = SERVICES["ec2"]
        entry = None
        try:
            try:
                caller = sigv4.scope(self.headers)
                if caller.service not in SERVICES:
                    raise Refusal("UnknownOperationException", f"the stand-in has no {caller.service}", 404)
                service = SERVICES[caller.service]
                action, parameters = service.read(self.headers, body)
                entry = self.server.state.requests.open(service.name, action, parameters, self.headers)
                entry["region"], entry["access_key"] = caller.region, caller.access_key
                answer = self._answer(service, caller, action, parameters, body, entry)
                self._finish(entry, 200, service.content_type, answer)
            except Refusal as error:
                document = service.refuse(error) if error.code else b""
                self._finish(entry, error.status, service.content_type, document, error.code)
        except Reset:
            self.reset()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _finish(self, entry, status: int, content_type: str, document: bytes, error: str | None = None):
        if entry is not None:
            self.server.state.requests.note(entry, status=status, error=error)
        self.reply(status, content_type, document)

    def _answer(self, service, caller, action: str, parameters: dict, body: bytes, entry: dict) -> bytes:
        server, state = self.server, self.server.state
        faults = state.faults.meeting(action, parameters, caller.region)
        sigv4.verify(state.settings.keys, "POST", self.path, self.headers, body)
        if caller.region not in region_names(state.settings):
            # As a Region that this account has not opted in to answers; one that does not exist has no endpoint.
            raise Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        self.meet_transport(faults, "before", entry)
        operation = server.models.operation(service.name, action)
        given = service.input(parameters, operation)
        function = ACTIONS.get((service.name, action))
        if function is None:
            raise Refusal("UnsupportedOperation", f"the stand-in has no {action} yet", 501)
        with state.lock:
            call = Call(state, service.name, action, state.region(caller.region), given, faults)
            if any(each.kind in EFFECTS for each in faults):
                state.requests.note(entry, fault=next(each.kind for each in faults if each.kind in EFFECTS))
            output = function(call)
            answer = service.answer(operation, output)
        state.requests.note(entry, done=True)
        self.meet_transport(faults, "after", entry)
        return answer


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, handler, state, models):
        super().__init__(address, handler)
        self.state = state
        self.models = models

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            self.state.clock.troubles.append(traceback.format_exc())
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_address[1]}"
