"""`imgserver serve`: the server, for a folder or as configured."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgserver.cli.config import config_option, place_of, read_settings
from imgserver.cli.errors import fail

if TYPE_CHECKING:
    from imgserver.settings.loader import Loaded


@click.command()
@click.argument("place", metavar="[DIR|URL]", required=False)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", "-p", help="Port to listen on; 0 takes a free one.  [default: 8080]")
@click.option("--workers", help="Worker processes; 0 counts the CPUs.  [default: 0]")
@click.option("--open", "-o", "open_browser", is_flag=True, help="Open the first of the URLs in the browser.")
@config_option
def serve(
    place: str | None,
    *,
    host: str | None,
    port: str | None,
    workers: str | None,
    open_browser: bool,
    config: Path | None,
) -> None:
    """Serve the pictures of DIR, transformed by URL; or those below a URL: https://, s3://, gs://, az://.

    Without either it is the source of the settings, else the current folder. Prints URLs to click. Stop it
    with Ctrl-C; open requests are finished.

    \b
    Examples:
      imgserver serve ./photos
      imgserver serve ./photos --port 0 --open
      imgserver serve s3://bucket/photos
      imgserver serve --host 0.0.0.0 --config imgserver.toml

    \b
    Exit codes: 0 stopped, 1 could not start, 2 wrong command line.
    """
    given = {**place_of(place), "server.host": host, "server.port": port, "workers.count": workers}

    def read() -> "Loaded":
        return read_settings(config, **given)

    loaded = read()
    _refuse_missing_folder(loaded)
    from imgserver.cli.banner import Banner
    from imgserver.web import gallery
    from imgserver.web.server import serve as run

    banner = Banner.of(loaded.settings, gallery=gallery.is_enabled(loaded.settings.server), open_browser=open_browser)
    run(loaded.settings, banner, read_settings=lambda: read().settings)


def _refuse_missing_folder(loaded: "Loaded") -> None:
    """Refused before anything starts: a mistyped folder would be a server of 404s."""
    root = loaded.settings.source.folder
    if root is not None and not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        fail(f"{root} {what} (source.root, from {loaded.origins['source.root']}); name the folder with the pictures")
