"""`imgserver url`: builds URLs that the server's parser accepts."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from imgserver.cli.options import config_option, read_settings

# The most common options of a URL, which have an option of the command each; --option takes any other.
KEYS = {
    "w": "Width: pixels, or a fraction such as 0.5.",
    "h": "Height.",
    "c": "Crop mode: fill, pad, thumb, ...",
    "g": "Gravity, the part to keep: auto, north_east, ...",
    "ar": "Aspect ratio, such as 16:9.",
    "f": "Format: auto, webp, ...",
    "q": "Quality: 1-100 or auto.",
    "dpr": "Device pixel ratio of the screen.",
}


def _keys(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds an option for each of KEYS."""
    for key, text in reversed(KEYS.items()):
        command = click.option(f"--{key}", metavar="VALUE", help=text)(command)
    return command


@click.command()
@click.argument("source", metavar="SRC")
@_keys
@click.option("--option", "-O", "others", multiple=True, metavar="KEY_VALUE", help="Any other option, as in a URL.")
@click.option("--srcset", metavar="WIDTHS", help="Widths separated by commas: print the value of a srcset attribute.")
@click.option("--sign", is_flag=True, help="Sign the URL with the first of signing.keys.")
@click.option("--expires", metavar="TIME", help="How long the URL is valid: 90s, 30m, 12h, 7d. Signs it.")
@click.option("--base", default="", metavar="URL", help="Scheme and host before the path: https://images.example.com.")
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
    """Print the URL of an original with options.

    SRC is the path of the original in its source, or the whole URL of a remote one.

    \b
    Examples:
      imgserver url cat.png --w 400 --f auto
      imgserver url team/anna.jpg --c fill --w 300 --h 300 --g auto --option e_grayscale
      imgserver url sunset.jpg --f auto --srcset 400,800,1600 --base https://images.example.com
      imgserver url sunset.jpg --w 800 --expires 1h --config imgserver.toml

    \b
    Exit codes: 0 printed, 1 an option is invalid, 2 wrong command line.
    """
    if srcset and keys["w"]:
        raise click.UsageError("--srcset gives the widths; leave out --w")
    end = [f"exp_{int(time.time()) + _seconds(expires)}"] if expires is not None else []
    from imgserver.web.bootstrap.dialects import make_dialects

    dialect = make_dialects(read_settings(config).settings).native
    ref, build = dialect.resolve(source), dialect.build_signed if sign or end else dialect.build

    def target(width: str | None) -> str:
        segments = [*end, *filter(None, [segment({**keys, "w": width}, others)])]
        return base.rstrip("/") + build(ref, "/".join(segments))

    if srcset is None:
        click.echo(target(keys["w"]))
    else:
        click.echo(", ".join(f"{target(width)} {width}w" for width in _widths(srcset)))


def segment(keys: dict[str, str | None], others: tuple[str, ...]) -> str:
    """One segment of options. Characters in values that separate options or segments are percent-encoded."""
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
            raise click.BadParameter(
                f'"{width}" is not allowed; whole pixels separated by commas', param_hint="--srcset"
            )
    return widths
