"""`imgserver purge`: makes running servers forget pictures, by POST /api/admin/purge."""

import json
from typing import Any
from urllib.parse import urlsplit

import click

from imgserver.cli.client import ask, credentials, incomplete, key_option, refused, removed, server_options

PATH = "/api/admin/purge"


@click.command()
@click.argument("url", required=False)
@click.option("--source", metavar="PATH", help="All renditions of one original.")
@click.option(
    "--prefix", metavar="PATH", help='All renditions of all originals below a folder; "" is the whole source.'
)
@click.option("--tag", metavar="NAME", help="All renditions of all originals with this tag.")
@click.option("--group", metavar="GROUP", help="One group, as Cache-Groups names it.")
@click.option("--all", "everything", is_flag=True, help="Everything of this server's namespace.")
@server_options
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print the server's own answer.")
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
    """Make a running server, and all others on its Redis, forget pictures: one URL, one original, a folder, a tag,
    or all.

    URL is a path such as /img/w_400/cat.png or a whole address; all its negotiated formats go.
    Browsers and CDNs keep the copies they have: purge the CDN after this.

    \b
    Examples:
      imgserver purge /img/w_400/cat.png
      imgserver purge --source team/cat.png --server http://10.0.0.5:8080
      imgserver purge --prefix team/
      imgserver purge --tag summer
      imgserver purge --all --json

    \b
    Exit codes: 0 purged, 1 refused or no answer, 2 wrong command line.
    """
    wish = _wish(
        url=None if url is None else _target(url),
        source=source,
        prefix=prefix,
        tag=tag,
        group=group,
        all=everything or None,
    )
    status, answer = ask(server, PATH, timeout=timeout, body=wish, headers=credentials(key))
    if status != 200 or not isinstance(answer, dict):
        refused(server, PATH, status, answer)
    click.echo(json.dumps(answer, indent=2) if as_json else _sentence(wish, answer))


def _wish(**given: object) -> dict[str, object]:
    wish = {name: value for name, value in given.items() if value is not None}
    if len(wish) != 1:
        raise click.UsageError("exactly one of URL, --source, --prefix, --tag, --group and --all")
    return wish


def _target(url: str) -> str:
    """As the server sees it: path and query."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _sentence(wish: dict[str, object], answer: dict[str, Any]) -> str:
    (kind, value), *_ = wish.items()
    what = "everything" if kind == "all" else f"{kind} {value}".rstrip()
    lines = [f"purged {what}: {removed(answer)}"]
    if not answer["propagated"]:
        lines.append("Redis is unavailable: the purge reaches the other servers when Redis is back")
    return "\n".join(lines + incomplete(answer))
