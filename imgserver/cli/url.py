"""`imgserver url`: builds URLs that the server's parser accepts."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from imgserver.cli.errors import fail
from imgserver.cli.options import config_option, read_settings
from imgserver.errors import NotFound
from imgserver.security.remote_url import REMOTE

if TYPE_CHECKING:
    from imgserver.plan.plan import SourceRef
    from imgserver.settings.schema import Settings

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
@click.option("--v", "version", metavar="VERSION", help="Version of the original as ?v=: auto, or a text of your own.")
@click.option(
    "--srcset",
    metavar="WIDTHS",
    help="Widths separated by commas: print the value of a srcset attribute.",
)
@click.option("--sign", is_flag=True, help="Sign the URL with the first of signing.keys.")
@click.option("--expires", metavar="TIME", help="How long the URL is valid: 90s, 30m, 12h, 7d. Signs it.")
@click.option("--base", default="", metavar="URL", help="Scheme and host before the path: https://images.example.com.")
@config_option
def url(
    source: str,
    *,
    others: tuple[str, ...],
    version: str | None,
    srcset: str | None,
    sign: bool,
    expires: str | None,
    base: str,
    config: Path | None,
    **keys: str | None,
) -> None:
    """Print the URL of an original with options.

    SRC is the path of the original in its source, or the whole URL of a remote one. With --srcset and --w, the first
    line is the URL with that width, for the attribute src, and the second one the value of srcset.

    Browsers and CDNs cache a URL with --v for a year. `auto` reads the original in its source. Another VERSION has this
    effect only in a signed URL, whose signature then covers the query.

    \b
    Examples:
      imgserver url cat.png --w 400 --f auto
      imgserver url team/anna.jpg --c fill --w 300 --h 300 --g auto --option e_grayscale
      imgserver url sunset.jpg --w 800 --v auto
      imgserver url sunset.jpg --f auto --srcset 400,800,1600 --base https://images.example.com
      imgserver url sunset.jpg --w 800 --srcset 400,800,1600          # the values of src and of srcset
      imgserver url sunset.jpg --w 800 --expires 1h --config imgserver.toml

    \b
    Exit codes: 0 printed, 1 an option is invalid or --v auto finds no original, 2 wrong command line.
    """
    end = [f"exp_{int(time.time()) + _seconds(expires)}"] if expires is not None else []
    from imgserver.web.bootstrap.dialects import make_dialects

    settings = read_settings(config).settings
    dialect = make_dialects(settings).native
    ref, build = dialect.resolve(source), dialect.build_signed if sign or end else dialect.build
    query, free_query = _queries(settings, ref, version)

    def target(width: str | None) -> str:
        segments = [*end, *filter(None, [segment({**keys, "w": width}, others)])]
        return base.rstrip("/") + build(ref, "/".join(segments), query=query) + free_query

    if srcset is None or keys["w"] is not None:
        click.echo(target(keys["w"]))
    if srcset is not None:
        click.echo(", ".join(f"{target(width)} {width}w" for width in _widths(srcset)))


def segment(keys: dict[str, str | None], others: tuple[str, ...]) -> str:
    """One segment of options. Characters in values that separate options or segments are percent-encoded."""
    given = [f"{key}_{quote(keys[key] or '', safe=':')}" for key in KEYS if keys.get(key) is not None]
    return ",".join([*given, *others])


def _queries(settings: "Settings", ref: "SourceRef", version: str | None) -> tuple[str, str]:
    """The query that a signature covers, and the one that it does not: the version of the original proves itself, and
    a CDN may remove it."""
    parameter = settings.http.version_parameter
    if version is None:
        return "", ""
    if not parameter:
        raise click.UsageError("--v has no effect: the setting http.version_parameter is empty")
    if not re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", version):
        raise click.BadParameter(f'"{version}" is not allowed; letters, digits and ._~-', param_hint="--v")
    if version != "auto":
        return f"?{parameter}={version}", ""
    import asyncio

    try:
        return "", f"?{parameter}={asyncio.run(_version_of(ref, settings))}"
    except NotFound:
        fail(f"--v auto: the source {ref.source} has no original {ref.path}")


async def _version_of(ref: "SourceRef", settings: "Settings") -> str:
    from imgserver.observability.audit import discard_event
    from imgserver.plan.canonical import version_of
    from imgserver.web.bootstrap.sources import make_sources

    sources = make_sources(settings, audit=discard_event)
    await sources.start()
    try:
        if sources.remote is not None and ref.source == REMOTE:
            # The user of the command may name any URL, as a signed request may.
            sources.remote.admit(ref.path, signed=True)
        return version_of(await sources.by_name[ref.source].fingerprint(ref.path))
    finally:
        await sources.close()


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
