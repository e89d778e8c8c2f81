"""A web application without dependencies: says hello, and which version says it."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
PORT = 8080


def page() -> bytes:
    version = (HERE / "VERSION").read_text().strip()
    return f"Hello from version {version}.\n".encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        known = {"/": page, "/health": lambda: b"ok\n"}
        answer = known.get(self.path)
        body = answer() if answer else b"not found\n"
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if page().startswith(b"Hello") else 1)
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
