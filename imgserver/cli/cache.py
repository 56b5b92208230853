"""`imgserver cache`: what a running server keeps, tier by tier, and a way to have it tidied up."""

from collections.abc import Mapping
from typing import Any

import click

from imgserver.cli.client import ask, credentials, incomplete, key_option, refused, removed, server_options
from imgserver.cli.errors import fail

PATH = "/api/image/health"
SWEEP_PATH = "/api/admin/sweep"
TIERS = ("memory", "disk", "redis")
NOT_TOLD = "–"


@click.group()
def cache() -> None:
    """Look into the cache of a running server, and tidy it up; `imgserver purge` empties it.

    \b
    Examples:
      imgserver cache stats
      imgserver cache stats --server http://10.0.0.5:8080 --json
      imgserver cache sweep

    \b
    Exit codes: 0 done, 1 refused or no answer, 2 wrong command line.
    """


@cache.command()
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the server's own figures.")
def stats(*, server: str, timeout: float, as_json: bool) -> None:
    """Print what each tier holds and how often it helped, counted since the server's start.

    A look-up that one tier misses goes on to the next, so hits of disk and Redis are misses of memory.

    \b
    Example:
      imgserver cache stats --json

    \b
    Exit codes: 0 told, 1 no answer, 2 wrong command line.
    """
    status, answer = ask(server, PATH, timeout=timeout)
    figures = answer.get("cache") if isinstance(answer, dict) else None
    if not isinstance(figures, dict):
        fail(f"{server}: {PATH} answered {status} without cache figures; is it an imgserver?")
    if as_json:
        import json

        click.echo(json.dumps(figures, indent=2))
    else:
        _print(figures)


@cache.command()
@server_options
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print the server's own answer.")
def sweep(*, server: str, timeout: float, key: str | None, as_json: bool) -> None:
    """Remove what is over its time or was purged, for the room it takes; no picture is answered another way.

    Such records are never answered, and go by themselves when room is needed or, in Redis, when their TTL ends. Each
    server sweeps its own memory and disk, and the Redis it shares.

    \b
    Examples:
      imgserver cache sweep
      imgserver cache sweep --server http://10.0.0.5:8080 --json

    \b
    Exit codes: 0 swept, 1 refused, no answer, or a tier could not be searched, 2 wrong command line.
    """
    status, answer = ask(server, SWEEP_PATH, timeout=timeout, body={}, headers=credentials(key))
    if status != 200 or not isinstance(answer, dict):
        refused(server, SWEEP_PATH, status, answer)
    if as_json:
        import json

        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo("\n".join([f"swept: {removed(answer)}", *incomplete(answer)]))
    if "failed" in answer["incomplete"].values():
        raise SystemExit(1)


def _print(figures: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    tiers = {name: figures[name] for name in TIERS if figures.get(name)}
    columns = [_rows(tier) for tier in tiers.values()]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("since the start")
    for name in tiers:
        table.add_column(name, justify="right", overflow="fold")
    for label in columns[0]:
        table.add_row(label, *(column[label] for column in columns))
    console = Console(highlight=False)
    console.print(table)
    console.print("", *_sentences(figures), sep="\n", markup=False, soft_wrap=True)


def _rows(of: Mapping[str, Any]) -> dict[str, str]:
    """One tier's column. What a tier does not count is told as such: Redis' own entries and evictions are Redis'."""
    asked = sum(of.get(result, 0) for result in ("hits", "misses", "stale", "errors", "bypassed"))
    return {
        "entries": str(of.get("entries", NOT_TOLD)),
        "size": _size(of["bytes"]) if "bytes" in of else NOT_TOLD,
        "limit": _size(of["limit_bytes"]) if "limit_bytes" in of else NOT_TOLD,
        "hits": str(of["hits"]),
        "misses": str(of["misses"]),
        "hit ratio": f"{of['hits'] / asked:.1%}" if asked else NOT_TOLD,
        "void or over": str(of["stale"]),
        "errors": str(of.get("errors", NOT_TOLD)),
        "not asked": str(of.get("bypassed", NOT_TOLD)),
        "evictions": str(of.get("evictions", NOT_TOLD)),
        "corrupt": _counts(of.get("corrupt")),
        "dropped writes": _counts(of.get("dropped_writes")),
    }


def _sentences(figures: Mapping[str, Any]) -> list[str]:
    lines = [
        f"waiting to be written: {figures['writes']} ({_size(figures['write_bytes'])});"
        f" never written: {_counts(figures['dropped_writes'])}",
        f"purges: {figures['purges']}",
    ]
    disk, link = figures.get("disk"), figures.get("link")
    if disk and disk["writes_paused"]:
        lines.append("disk: it refused a write; none is tried for a while")
    if link:
        lines.append(
            f"redis: {'connected' if link['connected'] else 'away'}; breakers: read {link['read_breaker']},"
            f" write {link['write_breaker']}, opened {link['opened']} times; faults: {_counts(link['faults'])}"
        )
        lines.append(f"purges of other servers: {'heard at once' if figures['listening'] else 'not heard now'}")
    return lines


def _counts(by_reason: Mapping[str, int] | None) -> str:
    """`12 (size 10, error 2)`."""
    if by_reason is None:
        return NOT_TOLD
    told = ", ".join(f"{reason} {count}" for reason, count in by_reason.items() if count)
    return f"{sum(by_reason.values())} ({told})" if told else "0"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
