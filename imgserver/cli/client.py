"""What commands ask a running server for; http.client only, so that no command loads a framework for one request."""

import json
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit

import click

from imgserver.cli.errors import fail

LONGEST_ANSWER = 1 << 20


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--server` and `--timeout`, the same for every command that asks a running server."""
    server = click.option(
        "--server", default="http://127.0.0.1:8080", show_default=True, help="Where the server listens."
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(0, 600, min_open=True),
        default=30,
        show_default=True,
        help="Seconds to wait.",
    )
    return server(timeout(command))


def ask(
    server: str, path: str, *, timeout: float, body: object = None, headers: dict[str, bytes] | None = None
) -> tuple[int, Any]:
    """Status and JSON of one answer (None: it was no JSON); POST where there is a body. A path in `server` goes before.

    No answer ends the command with exit code 1, a wrong address or key with 2.
    """
    parts = _parts(server)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    data = None if body is None else json.dumps(body).encode()
    given = {"Accept": "application/json", **({} if data is None else {"Content-Type": "application/json"})}
    try:
        connection.request(
            "GET" if data is None else "POST",
            parts.path.rstrip("/") + path,
            body=data,
            headers={**given, **(headers or {})},
        )
        answer = connection.getresponse()
        return answer.status, _read(answer.read(LONGEST_ANSWER))
    except ConnectionRefusedError:
        fail(f"{server}: nobody listens there; is the server running, and is this its address (--server)?")
    except (OSError, HTTPException) as error:
        fail(f"{server}: no answer: {error or type(error).__name__}")
    finally:
        connection.close()


def detail(answer: Any) -> str:
    """The sentence of a problem document, else nothing."""
    said = answer.get("detail") if isinstance(answer, dict) else None
    return said if isinstance(said, str) else ""


def _parts(server: str) -> SplitResult:
    try:
        parts = urlsplit(server if "://" in server else f"http://{server}")
        _ = parts.port
    except ValueError as error:
        raise click.BadParameter(f'"{server}": {error}', param_hint="--server") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f'"{server}" is not allowed; http:// or https:// and a host', param_hint="--server")
    return parts


def _read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


# What the commands share that ask a running server for its admin API: the key, refusals, and how a sweep ended.

TIERS = {"redis": "Redis", "originals": "the cache of originals"}
INCOMPLETE = {
    "running": "{tier} is still being searched; its removed records are not counted yet",
    "failed": "{tier} could not be searched completely; its remaining records are never served",
}


def key_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--key`."""
    told = "A key of scope purge, or admin.key. It shows in the list of processes.  [default: IMGSERVER_ADMIN_KEY]"
    return click.option("--key", envvar="IMGSERVER_ADMIN_KEY", help=told)(command)


def credentials(key: str | None) -> dict[str, bytes]:
    if not key:
        raise click.UsageError("no key: --key, or the variable IMGSERVER_ADMIN_KEY")
    if not key.isprintable():
        raise click.BadParameter("a key is one line of text", param_hint="--key")
    return {"Authorization": f"Bearer {key}".encode()}


def refused(server: str, path: str, status: int, answer: Any) -> NoReturn:
    match status:
        case 401:
            fail(f"{server}: the key is none of this server's (admin.key, or scope purge in api_keys)")
        case 404:
            fail(
                f"{server}: no admin API there: the server has no key for it (admin.key, api_keys), or is no imgserver"
            )
        case _:
            fail(f"{server}: {detail(answer) or f'{path} answered {status}'}")


def removed(answer: dict[str, Any]) -> str:
    """`removed 1 from memory, 2 from disk, 0 from Redis`."""
    return "removed " + ", ".join(f"{count} from {TIERS.get(tier, tier)}" for tier, count in answer["removed"].items())


def incomplete(answer: dict[str, Any]) -> list[str]:
    """A sentence per tier that was not searched completely."""
    return [INCOMPLETE[why].format(tier=TIERS.get(tier, tier)) for tier, why in answer["incomplete"].items()]
