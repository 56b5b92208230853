"""`imgserver get`: one request without a server."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from imgserver.cli.config import config_option, place_of, read_settings
from imgserver.cli.errors import fail
from imgserver.errors import NotFound
from imgserver.headers import caching
from imgserver.plan.formats import format_of_suffix
from imgserver.runtime.files import write_atomically
from imgserver.security.remote_url import REMOTE

if TYPE_CHECKING:
    from imgserver.engine.job import RenderResult
    from imgserver.plan.plan import ImageRequest
    from imgserver.settings.schema import Settings


@click.command()
@click.argument("target")
@click.option("--output", "-o", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write to FILE.")
@click.option("--root", metavar="DIR|URL", help="Where the pictures are: a folder, or https://, s3://, gs://, az://.")
@click.option("--accept", metavar="TYPES", help="What the client accepts, as in its Accept field; for f_auto.")
@config_option
def get(target: str, *, output: Path | None, root: str | None, accept: str | None, config: Path | None) -> None:
    """Make one picture without a server. TARGET is a URL, or its path from /img/ on.

    Where the URL leaves the format open, --accept decides, else the suffix of FILE. Without FILE the picture goes to
    standard output. Limits are those of the settings.

    \b
    Examples:
      imgserver get /img/w_400/cat.png -o cat.webp --root ./photos
      imgserver get /img/w_800,f_auto/cat.png --accept image/avif > cat.avif
      imgserver get /img/w_800,f_info/cat.png
      imgserver get /img/w_400/mugs/red.jpg --root https://cdn.example.com/shop/ -o red.jpg

    \b
    Exit codes: 0 made, 1 the picture or an option is bad, 2 wrong command line.
    """
    import asyncio

    from imgserver.web.bootstrap.dialects import make_owners_dialects

    settings = read_settings(config, **place_of(root)).settings
    request = make_owners_dialects(settings).parse(_path(target))
    if request.expires is not None:
        caching.seconds_left(request.expires, now=time.time())
    request = _negotiated(request, accept, output)
    if output is None and request.plan.terminal.kind == "image" and sys.stdout.isatty():
        raise click.UsageError("a picture is not for the terminal; give -o FILE")
    begun = time.perf_counter()
    try:
        result = asyncio.run(_render(request, settings))
    except NotFound:
        hint = f"; {request.not_found_hint}" if request.not_found_hint else ""
        fail(f"{request.ref.path}: no such picture in {_place(settings, request)}{hint}")
    milliseconds = (time.perf_counter() - begun) * 1000
    where = _write(result.body, output)
    size = f"{result.size.width}×{result.size.height}"
    click.echo(f"{where}: {len(result.body)} bytes, {result.media_type}, {size}, {milliseconds:.0f} ms", err=True)


def _path(target: str) -> str:
    """A URL as copied from a browser counts from its path on."""
    parts = urlsplit(target)
    return target.split(f"//{parts.netloc}", 1)[1] if parts.scheme in ("http", "https") and parts.netloc else target


def _negotiated(request: "ImageRequest", accept: str | None, output: Path | None) -> "ImageRequest":
    from imgserver.headers.negotiation import negotiate, offers

    wish = request.plan.output
    named = format_of_suffix(output.suffix) if output and accept is None else None
    if named is not None and named.writable and wish.format in ("source", "auto"):
        wish = replace(wish, format=named.name)
    return replace(request, plan=replace(request.plan, output=negotiate(wish, offers(accept))))


async def _render(request: "ImageRequest", settings: "Settings") -> "RenderResult":
    """In this process: there is nobody else it could harm."""
    from imgserver.engine.job import Job
    from imgserver.engine.render import render
    from imgserver.engine.vips import open_engine
    from imgserver.observability.audit import unheard
    from imgserver.web.bootstrap.sources import make_sources

    open_engine(svg=settings.limits.svg)
    sources = make_sources(settings, audit=unheard)
    await sources.start()
    try:
        if sources.remote is not None and request.ref.source == REMOTE:
            sources.remote.admit(request.ref.path, signed=request.signed)
        async with sources.by_name[request.ref.source].open(request.ref.path) as original:
            return render(Job(original.path, request.plan, settings.limits, settings.quality))
    finally:
        await sources.close()


def _place(settings: "Settings", request: "ImageRequest") -> str:
    place = settings.sources.get(request.ref.source, settings.source)
    return place.url if place.folder is None else str(place.folder)


def _write(body: bytes, output: Path | None) -> str:
    """All or nothing: whoever reads FILE meanwhile sees the old picture or the new one."""
    if output is None:
        # A terminal shows text only (pictures were refused before), and its prompt wants a line of its own.
        sys.stdout.buffer.write(body + b"\n" * sys.stdout.isatty())
        return "standard output"
    if output.exists() and not output.is_file():
        # A device or a pipe, such as /dev/stdout, is written to: to replace it would be to destroy it.
        output.write_bytes(body)
    else:
        write_atomically(output.resolve(), body)
    return str(output)
