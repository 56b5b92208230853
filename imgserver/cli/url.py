"""`imgserver url`: builds URLs, checked by the server's own parser."""

import re
import time
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from imgserver.cli.config import config_option, read_settings

# The options most URLs need have a switch of their own; --option takes all others as they stand in a URL.
KEYS = {
    "w": "Width: pixels, or a share such as 0.5.",
    "h": "Height.",
    "c": "Crop mode: fill, pad, thumb, ...",
    "g": "Gravity: what to keep, such as auto or north_east.",
    "ar": "Aspect ratio, such as 16:9.",
    "f": "Format: auto, webp, ...",
    "q": "Quality: 1-100 or auto.",
    "dpr": "Pixel ratio of the screen.",
}


def _keys(command: Callable[..., Any]) -> Callable[..., Any]:
    rows = reversed(KEYS.items())
    return reduce(lambda made, row: click.option(f"--{row[0]}", metavar="VALUE", help=row[1])(made), rows, command)


@click.command()
@click.argument("source", metavar="SRC")
@_keys
@click.option("--option", "-O", "others", multiple=True, metavar="KEY_VALUE", help="Any option, as in a URL.")
@click.option("--srcset", metavar="WIDTHS", help="Widths joined by commas: prints the value of a srcset attribute.")
@click.option("--sign", is_flag=True, help="Sign it with the first of signing.keys.")
@click.option("--expires", metavar="TIME", help="How long it is good: 90s, 30m, 12h, 7d. Signs it.")
@click.option("--base", default="", metavar="URL", help="What stands before the path: https://images.example.com.")
@config_option
def url(
    source: str,
    *,
    others: tuple[str, ...],
    srcset: str | None,
    sign: bool,
    expires: str | None,
    base: str,
    config: Path | None,
    **keys: str | None,
) -> None:
    """Print the URL of SRC, a path inside the served folder.

    \b
    Examples:
      imgserver url cat.png --w 400 --f auto
      imgserver url team/anna.jpg --c fill --w 300 --h 300 --g auto --option e_grayscale
      imgserver url sunset.jpg --f auto --srcset 400,800,1600 --base https://images.example.com
      imgserver url sunset.jpg --w 800 --expires 1h --config imgserver.toml

    \b
    Exit codes: 0 printed, 1 an option is wrong, 2 wrong command line.
    """
    if srcset and keys["w"]:
        raise click.UsageError("--srcset gives the widths; leave out --w")
    end = [f"exp_{int(time.time()) + _seconds(expires)}"] if expires is not None else []
    from imgserver.web.bootstrap.dialects import make_dialects

    dialect = make_dialects(read_settings(config).settings).native
    ref, build = dialect.resolve(source), dialect.build_signed if sign or end else dialect.build

    def made(width: str | None) -> str:
        segments = [*end, *filter(None, [spell({**keys, "w": width}, others)])]
        return base.rstrip("/") + build(ref, "/".join(segments))

    if srcset is None:
        click.echo(made(keys["w"]))
    else:
        click.echo(", ".join(f"{made(width)} {width}w" for width in _widths(srcset)))


def spell(keys: dict[str, str | None], others: tuple[str, ...]) -> str:
    """One segment of options; what would part options or segments is escaped in their values."""
    given = [f"{key}_{quote(keys[key] or '', safe=':')}" for key in KEYS if keys.get(key) is not None]
    return ",".join([*given, *others])


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if found is None:
        raise click.BadParameter(f'"{text}" is not allowed; such as 90s, 30m, 12h or 7d', param_hint="--expires")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


def _widths(text: str) -> list[str]:
    widths = [width.strip() for width in text.split(",")]
    for width in widths:
        if not (width.isascii() and width.isdigit() and int(width)):
            raise click.BadParameter(f'"{width}" is not allowed; whole pixels joined by commas', param_hint="--srcset")
    return widths
