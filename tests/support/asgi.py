"""Requests to an application in this process, without a socket and without a client's package."""

import asyncio
import json
from typing import NamedTuple


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


async def ask(app, method, path, parts, headers=None, *, pause=0.0):
    """Sends a request whose body comes in parts, a list that gets shorter, a pause before each.

    Returns:
        The answer.
    """
    sent = {"host": "127.0.0.1", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    left, messages = parts, []

    async def receive():
        if not left:
            await asyncio.Event().wait()  # the client stays
        await asyncio.sleep(pause)
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message):
        messages.append(message)

    await app(scope, receive, send)
    start, *bodies = messages
    found = {k.decode().lower(): v.decode() for k, v in start["headers"]}
    return Answer(start["status"], found, b"".join(m.get("body", b"") for m in bodies))


def post(app, data, headers=None):
    """Posts a body to /predict."""
    return asyncio.run(ask(app, "POST", "/predict", [data], headers))


def get(app, path, headers=None):
    return asyncio.run(ask(app, "GET", path, [b""], headers))


def form(files, boundary="edge"):
    """Writes a form of (name, data); returns its headers and body."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return {"content-type": f"multipart/form-data; boundary={boundary}"}, body
