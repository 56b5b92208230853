"""The admin API of a running server: the key that it needs, its refusals, and the result of a purge or a sweep."""

from collections.abc import Callable
from typing import Any, NoReturn

import click

from imgserver.cli.client import request_json
from imgserver.cli.errors import fail

TIERS = {"redis": "Redis", "originals": "the cache of originals"}
INCOMPLETE = {
    "running": "{tier} is still being searched; its removed records are not counted yet",
    "failed": "{tier} could not be searched completely; its remaining records are never served",
}


def key_option(scope: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds `--key` for a key with this scope."""
    text = (
        f"API key of scope {scope}, or admin.key. An option can be seen in the list of processes.  "
        "[default: IMGSERVER_ADMIN_KEY]"
    )
    return click.option("--key", envvar="IMGSERVER_ADMIN_KEY", help=text)


def post(server: str, path: str, *, key: str | None, body: object, timeout: float) -> dict[str, Any]:
    """The result of an admin request.

    Ends the command with exit code 1 if the server refuses the request, and with 2 without a key.
    """
    if not key:
        raise click.UsageError("no key: give --key, or set the variable IMGSERVER_ADMIN_KEY")
    status, result = request_json(server, path, timeout=timeout, body=body, headers=credentials(key))
    if status != 200 or not isinstance(result, dict):
        _fail_refused(server, path, status, result)
    return result


def removed(result: dict[str, Any]) -> str:
    """`removed 1 from memory, 2 from disk, 0 from Redis`."""
    return "removed " + ", ".join(f"{count} from {TIERS.get(tier, tier)}" for tier, count in result["removed"].items())


def incomplete(result: dict[str, Any]) -> list[str]:
    """A sentence for each tier that was not searched completely."""
    return [INCOMPLETE[reason].format(tier=TIERS.get(tier, tier)) for tier, reason in result["incomplete"].items()]


def credentials(key: str | None) -> dict[str, bytes]:
    """The header with the key; none without a key."""
    if not key:
        return {}
    if not key.isprintable():
        raise click.BadParameter("a key is one line of text", param_hint="--key")
    return {"Authorization": f"Bearer {key}".encode()}


def _fail_refused(server: str, path: str, status: int, result: Any) -> NoReturn:
    match status:
        case 401:
            fail(f"{server}: the server does not accept this key (admin.key, or an API key of scope purge)")
        case 404:
            fail(f"{server}: no admin API; the server has no key for it (admin.key, api_keys), or is not an imgserver")
        case _:
            detail = result.get("detail") if isinstance(result, dict) else None
            fail(f"{server}: {detail or f'{path} answered {status}'}")
