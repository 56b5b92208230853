"""`imgserver serve`: runs the server for a folder, a URL or the configured sources."""

import os
from pathlib import Path

import click

from imgserver.cli.options import check_start, config_option, read_settings, source_options


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
    Exit codes: 0 stopped, 1 could not start, 2 wrong command line, 130 interrupted before the start.
    """
    given = {**source_options(source), "server.host": host, "server.port": port, "workers.count": workers}
    loaded = check_start(config, os.environ, **given)
    from imgserver.cli.banner import Banner
    from imgserver.web import gallery
    from imgserver.web.server import serve as run

    banner = Banner.of(loaded.settings, gallery=gallery.is_enabled(loaded.settings.server), open_browser=open_browser)
    run(
        loaded.settings,
        banner,
        read_settings=lambda: read_settings(config, **given).settings,
        ignored_variables=loaded.ignored_variables,
    )
