"""`imgserver get`: renders one URL without a server."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from imgserver.cli.errors import fail
from imgserver.cli.options import config_option, read_settings, source_options
from imgserver.errors import NotFound
from imgserver.headers import caching
from imgserver.plan.canonical import version_of
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
@click.option("--root", metavar="DIR|URL", help="Where the originals are: a folder, or https://, s3://, gs://, az://.")
@click.option("--accept", metavar="TYPES", help="Media types as in the Accept header; decides f_auto.")
@config_option
def get(target: str, *, output: Path | None, root: str | None, accept: str | None, config: Path | None) -> None:
    """Render one image without a server. TARGET is a URL or its path, which begins with /img/.

    If the URL leaves the format open, --accept decides, or else the suffix of FILE. Without FILE the image is written
    to standard output. The limits of the settings apply.

    \b
    Examples:
      imgserver get /img/w_400/cat.png -o cat.webp --root ./photos
      imgserver get /img/w_800,f_auto/cat.png --accept image/avif > cat.avif
      imgserver get /img/w_800,f_info/cat.png
      imgserver get /img/w_400/mugs/red.jpg --root https://cdn.example.com/shop/ -o red.jpg

    \b
    Exit codes: 0 rendered, 1 the original or an option is invalid, 2 wrong command line.
    """
    import asyncio

    from imgserver.web.bootstrap.dialects import make_owners_dialects

    settings = read_settings(config, **source_options(root)).settings
    request = make_owners_dialects(settings).parse(_path(target))
    if request.expires is not None:
        caching.seconds_left(request.expires, now=time.time())
    request = _negotiated(request, accept, output)
    if output is None and request.plan.terminal.kind == "image" and sys.stdout.isatty():
        raise click.UsageError("an image cannot be shown in the terminal; give -o FILE")
    begun = time.perf_counter()
    try:
        result = asyncio.run(_render(request, settings))
    except NotFound:
        hint = f"; {request.not_found_hint}" if request.not_found_hint else ""
        fail(f"{request.ref.path}: no such original in {_location(settings, request)}{hint}")
    milliseconds = (time.perf_counter() - begun) * 1000
    where = _write(result.body, output)
    size = f"{result.size.width}×{result.size.height}"
    click.echo(f"{where}: {len(result.body)} bytes, {result.media_type}, {size}, {milliseconds:.0f} ms", err=True)


def _path(target: str) -> str:
    """The path of a URL as copied from a browser; a path is returned unchanged."""
    parts = urlsplit(target)
    return target.split(f"//{parts.netloc}", 1)[1] if parts.scheme in ("http", "https") and parts.netloc else target


def _negotiated(request: "ImageRequest", accept: str | None, output: Path | None) -> "ImageRequest":
    from imgserver.headers.negotiation import negotiate, offers

    wanted = request.plan.output
    named = format_of_suffix(output.suffix) if output and accept is None else None
    if named is not None and named.writable and wanted.format in ("source", "auto"):
        wanted = replace(wanted, format=named.name)
    return replace(request, plan=replace(request.plan, output=negotiate(wanted, offers(accept))))


async def _render(request: "ImageRequest", settings: "Settings") -> "RenderResult":
    """Renders in this process: a crash of libvips harms nobody else."""
    from imgserver.engine.job import Job
    from imgserver.engine.render import render
    from imgserver.engine.vips import open_engine
    from imgserver.observability.audit import discard_event
    from imgserver.web.bootstrap.sources import make_sources

    open_engine(svg=settings.limits.svg)
    sources = make_sources(settings, audit=discard_event)
    await sources.start()
    try:
        if sources.remote is not None and request.ref.source == REMOTE:
            sources.remote.admit(request.ref.path, signed=request.signed)
        async with sources.by_name[request.ref.source].open(request.ref.path) as original:
            version = version_of(original.fingerprint)
            return render(Job(original.path, request.plan, settings.limits, settings.quality, version=version))
    finally:
        await sources.close()


def _location(settings: "Settings", request: "ImageRequest") -> str:
    source = settings.sources.get(request.ref.source, settings.source)
    return source.url if source.folder is None else str(source.folder)


def _write(body: bytes, output: Path | None) -> str:
    """Replaces FILE atomically: a concurrent reader sees the old image or the new one. Returns what was written to."""
    if output is None:
        # Only text reaches a terminal (images were refused before); the line break puts the prompt on a new line.
        sys.stdout.buffer.write(body + b"\n" * sys.stdout.isatty())
        return "standard output"
    if output.exists() and not output.is_file():
        # A device or a pipe such as /dev/stdout is written to; an atomic replacement would delete it.
        output.write_bytes(body)
    else:
        write_atomically(output.resolve(), body)
    return str(output)
