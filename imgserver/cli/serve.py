"""`imgserver serve`: runs the server for a folder, a URL or the configured sources."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgserver.cli.errors import fail
from imgserver.cli.options import config_option, read_settings, source_options

if TYPE_CHECKING:
    from imgserver.settings.loader import Loaded


@click.command()
@click.argument("source", metavar="[DIR|URL]", required=False)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", "-p", help="Port to listen on; 0 takes a free one.  [default: 8080]")
@click.option("--workers", help="Worker processes; 0 counts the CPUs.  [default: 0]")
@click.option("--open", "-o", "open_browser", is_flag=True, help="Open the first URL in the browser.")
@config_option
def serve(
    source: str | None,
    *,
    host: str | None,
    port: str | None,
    workers: str | None,
    open_browser: bool,
    config: Path | None,
) -> None:
    """Serve the images of a folder or of a URL.

    The URL begins with https://, s3://, gs:// or az://. Without DIR and URL the settings name the source; its default
    is the current folder. Prints URLs to try. Ctrl-C stops the server after it has finished the open requests.

    \b
    Examples:
      imgserver serve ./photos
      imgserver serve ./photos --port 0 --open
      imgserver serve s3://bucket/photos
      imgserver serve --host 0.0.0.0 --config imgserver.toml

    \b
    Exit codes: 0 stopped, 1 could not start, 2 wrong command line.
    """
    given = {**source_options(source), "server.host": host, "server.port": port, "workers.count": workers}

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
    """A mistyped folder would only show as 404s, so the server does not start with it."""
    root = loaded.settings.source.folder
    if root is not None and not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        fail(f"{root} {what} (source.root, from {loaded.origins['source.root']}); name the folder with the originals")
