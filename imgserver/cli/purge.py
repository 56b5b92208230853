"""`imgserver purge`: purges renditions from running servers, by POST /api/admin/purge."""

import json
from typing import Any
from urllib.parse import urlsplit

import click

from imgserver.cli.admin import incomplete, key_option, post, removed
from imgserver.cli.options import server_options

PATH = "/api/admin/purge"


@click.command()
@click.argument("url", required=False)
@click.option("--source", metavar="PATH", help="All renditions of one original.")
@click.option(
    "--prefix", metavar="PATH", help='All renditions of all originals below a folder; "" is the whole source.'
)
@click.option("--tag", metavar="NAME", help="All renditions of all originals with this tag.")
@click.option("--group", metavar="GROUP", help="One group, as Cache-Groups names it.")
@click.option("--all", "everything", is_flag=True, help="All renditions in the namespace of this server.")
@server_options(timeout_seconds=30)
@key_option("purge")
@click.option("--json", "as_json", is_flag=True, help="Print the response of the server.")
def purge(
    url: str | None,
    *,
    source: str | None,
    prefix: str | None,
    tag: str | None,
    group: str | None,
    everything: bool,
    server: str,
    timeout: float,
    key: str | None,
    as_json: bool,
) -> None:
    """Purge renditions from running servers.

    A purge reaches the server and all other servers on its Redis. Exactly one of URL, --source, --prefix, --tag,
    --group and --all says which. URL is a path such as /img/w_400/cat.png or a whole URL; all its negotiated formats
    are purged. Browsers and CDNs keep their copies: purge the CDN after this.

    \b
    Examples:
      imgserver purge /img/w_400/cat.png
      imgserver purge --source team/cat.png --server http://10.0.0.5:8080
      imgserver purge --prefix team/
      imgserver purge --tag summer
      imgserver purge --all --json

    \b
    Exit codes: 0 purged, 1 refused or no response, 2 wrong command line.
    """
    selector = _selector(
        url=None if url is None else _target(url),
        source=source,
        prefix=prefix,
        tag=tag,
        group=group,
        all=everything or None,
    )
    result = post(server, PATH, key=key, body=selector, timeout=timeout)
    click.echo(json.dumps(result, indent=2) if as_json else _report(selector, result))


def _selector(**given: object) -> dict[str, object]:
    """The body of the request: what to purge."""
    selector = {name: value for name, value in given.items() if value is not None}
    if len(selector) != 1:
        raise click.UsageError("give exactly one of URL, --source, --prefix, --tag, --group and --all")
    return selector


def _target(url: str) -> str:
    """The path and the query of a URL, which is what the server sees."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _report(selector: dict[str, object], result: dict[str, Any]) -> str:
    (kind, value), *_ = selector.items()
    what = "everything" if kind == "all" else f"{kind} {value}".rstrip()
    lines = [f"purged {what}: {removed(result)}"]
    if not result["propagated"]:
        lines.append("Redis is unavailable: the purge reaches the other servers when Redis is back")
    return "\n".join(lines + incomplete(result))
