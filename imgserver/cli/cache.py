"""`imgserver cache`: statistics of each tier of a running server, and a sweep of its cache."""

from collections.abc import Mapping
from typing import Any

import click

from imgserver.cli.admin import credentials, incomplete, key_option, post, removed
from imgserver.cli.client import request_json
from imgserver.cli.errors import fail
from imgserver.cli.options import server_options
from imgserver.cli.tables import print_table

PATH = "/api/image/health"
SWEEP_PATH = "/api/admin/sweep"
UNKNOWN = "–"


@click.group()
def cache() -> None:
    """Show or sweep the cache of a running server. `imgserver purge` empties it.

    \b
    Examples:
      imgserver cache stats
      imgserver cache stats --server http://10.0.0.5:8080 --json
      imgserver cache sweep

    \b
    Exit codes: 0 done, 1 refused or no response, 2 wrong command line.
    """


@cache.command()
@server_options(timeout_seconds=30)
@key_option("metrics")
@click.option("--json", "as_json", is_flag=True, help="Print the figures of the server.")
def stats(*, server: str, timeout: float, key: str | None, as_json: bool) -> None:
    """Print the size and the lookups of each tier.

    Lookups are counted since the start of the server. A lookup that misses one tier goes on to the next, so each hit
    of disk or Redis is a miss of memory. A key is needed from another machine when http.metrics_public is false.

    \b
    Examples:
      imgserver cache stats --json
      imgserver cache stats --server https://images.example.com --key "$METRICS_KEY"

    \b
    Exit codes: 0 printed, 1 refused or no response, 2 wrong command line.
    """
    status, response = request_json(server, PATH, timeout=timeout, headers=credentials(key))
    figures = response.get("cache") if isinstance(response, dict) else None
    if status in (401, 403, 429):
        fail(f"{server}: the server does not accept this key (an API key of scope metrics, or admin.key)")
    if not isinstance(figures, dict) and isinstance(response, dict) and isinstance(response.get("status"), str):
        fail(f"{server}: the figures need a key of scope metrics (--key); the server's http.metrics_public is false")
    if not isinstance(figures, dict):
        fail(f"{server}: {PATH} answered {status} without cache figures; is it an imgserver?")
    if as_json:
        import json

        click.echo(json.dumps(figures, indent=2))
    else:
        _print(figures)


@cache.command()
@server_options(timeout_seconds=30)
@key_option("purge")
@click.option("--json", "as_json", is_flag=True, help="Print the response of the server.")
def sweep(*, server: str, timeout: float, key: str | None, as_json: bool) -> None:
    """Remove expired and purged records to free their space.

    Responses do not change: such records are never served. They are evicted when space is needed or, in Redis, when
    their TTL ends. Each server sweeps its own memory and disk, and the Redis it shares.

    \b
    Examples:
      imgserver cache sweep
      imgserver cache sweep --server http://10.0.0.5:8080 --json

    \b
    Exit codes: 0 swept, 1 refused, no response, or a tier could not be searched, 2 wrong command line.
    """
    result = post(server, SWEEP_PATH, key=key, body={}, timeout=timeout)
    if as_json:
        import json

        click.echo(json.dumps(result, indent=2))
    else:
        click.echo("\n".join([f"swept: {removed(result)}", *incomplete(result)]))
    if "failed" in result["incomplete"].values():
        raise SystemExit(1)


def _print(figures: Mapping[str, Any]) -> None:
    from rich.table import Table

    tiers = figures["tiers"]
    columns = [_rows(tier) for tier in tiers.values()]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("since the start")
    for name in tiers:
        table.add_column(name, justify="right", overflow="fold")
    for label in columns[0]:
        table.add_row(label, *(column[label] for column in columns))
    print_table(table)
    click.echo("\n".join(["", *_sentences(figures)]))


def _rows(of: Mapping[str, Any]) -> dict[str, str]:
    """The column of one tier. A figure that a tier does not have is unknown: Redis counts its entries itself."""
    lookups = sum(of[result] or 0 for result in ("hits", "misses", "stale", "errors", "bypassed"))
    return {
        "entries": _number(of["entries"]),
        "size": _size(of["bytes"]),
        "limit": _size(of["limit_bytes"]),
        "hits": str(of["hits"]),
        "misses": str(of["misses"]),
        "hit ratio": f"{of['hits'] / lookups:.1%}" if lookups else UNKNOWN,
        "stale": str(of["stale"]),
        "errors": _number(of["errors"]),
        "bypassed": _number(of["bypassed"]),
        "evictions": _number(of["evictions"]),
        "corrupt": _counts(of["corrupt"]),
        "dropped writes": _counts(of["dropped_writes"]),
    }


def _sentences(figures: Mapping[str, Any]) -> list[str]:
    lines = [
        f"pending writes: {figures['pending_writes']} ({_size(figures['pending_write_bytes'])});"
        f" dropped: {_counts(figures['dropped_writes'])}",
        f"purges: {figures['purges']}",
    ]
    lines += [f"{name}: suspended after faults" for name, tier in figures["tiers"].items() if tier["degraded"]]
    if client := figures["redis_client"]:
        lines.append(
            f"redis: {'connected' if client['connected'] else 'unavailable'}; breakers: read {client['read_breaker']},"
            f" write {client['write_breaker']}, opened {client['opened']} times; faults: {_counts(client['faults'])}"
        )
        lines.append(f"purges of other servers: {'subscribed' if figures['subscribed'] else 'not received now'}")
    return lines


def _counts(by_reason: Mapping[str, int] | None) -> str:
    """`12 (size 10, error 2)`."""
    if by_reason is None:
        return UNKNOWN
    reasons = ", ".join(f"{reason} {count}" for reason, count in by_reason.items() if count)
    return f"{sum(by_reason.values())} ({reasons})" if reasons else "0"


def _number(count: int | None) -> str:
    return UNKNOWN if count is None else str(count)


def _size(count: float | None) -> str:
    if count is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
