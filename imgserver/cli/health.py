"""`imgserver health`: one request, for the health check of a container."""

import click

from imgserver.cli.client import request
from imgserver.cli.errors import fail
from imgserver.cli.options import server_options

PATH = "/api/health"


@click.command()
@server_options(timeout_seconds=3)
@click.option("--json", "as_json", is_flag=True, help="Print the response of the server.")
def health(*, server: str, timeout: float, as_json: bool) -> None:
    """Ask a running server whether it is healthy (GET /api/health).

    \b
    Examples:
      imgserver health
      imgserver health --server http://127.0.0.1:9000 --timeout 1

    \b
    Exit codes: 0 healthy (also if degraded), 1 unhealthy or no response, 2 wrong command line.
    """
    status, body = request(server, PATH, timeout=timeout)
    if as_json:
        click.echo(body.decode("utf-8", "replace"))
    if status != 200:
        fail(f"{server}: unhealthy; {PATH} answered {status}")
    if not as_json:
        click.echo(f"{server}: healthy")
