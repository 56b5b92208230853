"""`imgserver health`: one request, for container health checks. Imports click and http.client only."""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import click

from imgserver.cli.errors import fail

LONGEST_BODY = 64 * 1024


@click.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the server listens.")
@click.option(
    "--timeout", type=click.FloatRange(0, 600, min_open=True), default=3.0, show_default=True, help="Seconds to wait."
)
@click.option("--json", "as_json", is_flag=True, help="Print the server's own answer.")
def health(url: str, timeout: float, as_json: bool) -> None:
    """Ask a running server whether it is well (GET /api/health).

    \b
    Examples:
      imgserver health
      imgserver health --url http://127.0.0.1:9000 --timeout 1

    \b
    Exit codes: 0 well (also while degraded), 1 unwell or no answer, 2 wrong command line.
    """
    try:
        status, body = _get(url, timeout)
    except (OSError, HTTPException) as error:
        fail(f"{url}: no answer: {error or type(error).__name__}")
    if as_json:
        click.echo(body)
    if status != 200:
        fail(f"{url}: unwell, /api/health answered {status}")
    if not as_json:
        click.echo(f"{url}: well")


def _get(url: str, timeout: float) -> tuple[int, str]:
    """Status and body of the health endpoint; a path in `url` goes before it."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f'"{url}" is not allowed; http:// or https:// and a host', param_hint="--url")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, _port(url), timeout=timeout)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/api/health", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read(LONGEST_BODY).decode("utf-8", "replace")
    finally:
        connection.close()


def _port(url: str) -> int | None:
    try:
        return urlsplit(url if "://" in url else f"http://{url}").port
    except ValueError as error:
        raise click.BadParameter(f'"{url}": {error}', param_hint="--url") from None
