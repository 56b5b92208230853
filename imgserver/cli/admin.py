"""What the commands share that ask a running server for its admin API: the key, refusals, and how a sweep ended."""

from collections.abc import Callable
from typing import Any, NoReturn

import click

from imgserver.cli.boundary import fail
from imgserver.cli.remote import detail

TIERS = (("memory", "memory"), ("disk", "disk"), ("redis", "Redis"))
LEFT = {
    "going": "{tier} is still being searched; what it gave back is not counted yet",
    "failed": "{tier} could not be searched to its end; what is left there is never answered",
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
    return "removed " + ", ".join(f"{answer['removed'][tier]} from {name}" for tier, name in TIERS)


def left(answer: dict[str, Any]) -> list[str]:
    """A sentence per tier that was not searched to its end."""
    names = {**dict(TIERS), "originals": "the folder of far originals"}
    return [LEFT[why].format(tier=names[tier]) for tier, why in answer["left"].items()]
