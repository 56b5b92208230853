"""One HTTP request to a running server. http.client only: no command loads a framework for one request."""

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click

from imgserver.cli.errors import fail
from imgserver.runtime.resources import MIB

MAX_RESPONSE_BYTES = MIB


def request(
    server: str, path: str, *, timeout: float, body: object = None, headers: dict[str, bytes] | None = None
) -> tuple[int, bytes]:
    """The status and the body of one response. A path in `server` is put before `path`; with a body, which is sent as
    JSON, the method is POST.

    Ends the command with exit code 1 if no response comes, and with 2 if `server` is not an HTTP URL.
    """
    parts = _parts(server)
    connection_type = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connection_type(parts.hostname or "", parts.port, timeout=timeout)
    method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
    fields = {"Accept": "application/json", **({} if data is None else {"Content-Type": "application/json"})}
    try:
        connection.request(method, parts.path.rstrip("/") + path, body=data, headers={**fields, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read(MAX_RESPONSE_BYTES)
    except ConnectionRefusedError:
        fail(f"{server}: connection refused; is the server running, and is this its address (--server)?")
    except (OSError, HTTPException) as error:
        fail(f"{server}: no response: {error or type(error).__name__}")
    finally:
        connection.close()


def request_json(
    server: str, path: str, *, timeout: float, body: object = None, headers: dict[str, bytes] | None = None
) -> tuple[int, Any]:
    """The status and the JSON of one response; None for a body that is not JSON. Otherwise as `request`."""
    status, data = request(server, path, timeout=timeout, body=body, headers=headers)
    try:
        return status, json.loads(data)
    except ValueError:
        return status, None


def _parts(server: str) -> SplitResult:
    try:
        parts = urlsplit(server if "://" in server else f"http://{server}")
        _ = parts.port
    except ValueError as error:
        raise click.BadParameter(f'"{server}": {error}', param_hint="--server") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f'"{server}" is not allowed; http:// or https:// and a host', param_hint="--server")
    return parts
