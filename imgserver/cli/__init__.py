"""The command line: one module per command, each a thin wrapper over the package.

`imgserver health` runs every few seconds in a container, so the modules of commands import only click and light parts
of the standard library; pydantic, rich, aiohttp and libvips are imported inside the functions that need them.

Results go to standard output, everything else to standard error. Exit codes: 0 success; 1 failure (an unreadable image,
invalid settings, an unhealthy server), with a message of one sentence; 2 wrong command line; 130 Ctrl-C.
"""

import click

from imgserver import __version__
from imgserver.cli.api_keys import api_keys
from imgserver.cli.cache import cache
from imgserver.cli.config import config
from imgserver.cli.doctor import doctor
from imgserver.cli.errors import CommandGroup
from imgserver.cli.get import get
from imgserver.cli.health import health
from imgserver.cli.inspect import inspect
from imgserver.cli.keys import keys
from imgserver.cli.optimize import optimize
from imgserver.cli.purge import purge
from imgserver.cli.serve import serve
from imgserver.cli.url import url


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", "-V", prog_name="imgserver", message="%(prog)s %(version)s")
def main() -> None:
    """Image server: transforms images on the fly, by URL.

    \b
    Examples:
      imgserver serve ./photos                 # then open the URLs that it prints
      imgserver get /img/w_400/cat.png -o cat.webp --root ./photos
      imgserver doctor                         # what is missing, and how to repair it

    \b
    Exit codes: 0 done, 1 failed, 2 wrong command line.
    """


for command in (serve, get, url, inspect, optimize, doctor, health, config, keys, api_keys, purge, cache):
    main.add_command(command)
