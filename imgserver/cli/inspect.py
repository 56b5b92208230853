"""`imgserver inspect`: the metadata of an image file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgserver.cli.errors import fail
from imgserver.cli.options import config_option, read_settings
from imgserver.cli.tables import print_table
from imgserver.errors import ImgserverError
from imgserver.security.redaction import redact
from imgserver.security.remote_url import is_remote_url

if TYPE_CHECKING:
    from imgserver.engine.describe import Description
    from imgserver.engine.job import Limits
    from imgserver.settings.schema import Settings

COLORS = 5


class _FileOrUrl(click.Path):
    """An existing file as a Path, or a URL as text."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(path_type=Path, exists=True, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if is_remote_url(str(value)) else super().convert(value, param, ctx)


@click.command()
@click.argument("file", metavar="FILE|URL", type=_FileOrUrl())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def inspect(file: Path | str, *, as_json: bool, config: Path | None) -> None:
    """Print the metadata and the palette of an image file or URL.

    That is size, format, EXIF, color profile, frames and the most common colors. The size is as stored, before the
    EXIF orientation is applied. Of a GPS position only its presence is printed.

    \b
    Examples:
      imgserver inspect photo.jpg
      imgserver inspect --json party.gif
      imgserver inspect https://cdn.example.com/photo.jpg

    \b
    Exit codes: 0 read, 1 not an image that this build reads, or over a limit, 2 wrong command line.
    """
    settings = read_settings(config).settings
    from imgserver.engine.describe import describe
    from imgserver.engine.vips import open_engine

    open_engine(svg=settings.limits.svg)
    try:
        with _local_copy(file, settings) as path:
            description, palette = describe(str(path), settings.limits), _palette(path, settings.limits)
    except ImgserverError as error:
        fail(f"{file}: {error.detail}")
    if as_json:
        import json

        click.echo(json.dumps({"file": redact(str(file)), **asdict(description), "palette": palette}, indent=2))
    else:
        _print_table(str(file), description, palette)


@contextmanager
def _local_copy(file: Path | str, settings: "Settings") -> Iterator[Path]:
    """The file itself, or a copy of what is at the URL, fetched by the server's client within its limits."""
    if isinstance(file, Path):
        yield file
        return
    import asyncio
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        copy = Path(folder) / "original"
        asyncio.run(_download(file, copy, settings))
        yield copy


async def _download(url: str, copy: Path, settings: "Settings") -> None:
    from imgserver.observability.audit import discard_event
    from imgserver.security.remote_url import parse
    from imgserver.sources.http import remote_origin
    from imgserver.sources.origin import refuse_larger
    from imgserver.sources.url_mapping import RemoteUrlMapping, remote_settings

    path = str(parse(url))
    origin_settings = remote_settings(settings.remote, settings.fetch, settings.origin_cache)
    mapping = RemoteUrlMapping(origin_settings, audit=discard_event)
    # The user of the command may name any URL, as a signed request may; a port other than 80 and 443 must be listed.
    mapping.admit(path, signed=True)
    origin = remote_origin(origin_settings, mapping, audit=discard_event)
    with copy.open("wb") as file:

        async def sink(chunk: bytes) -> None:
            refuse_larger(file.tell() + len(chunk), settings.origin_cache.item_bytes)
            file.write(chunk)

        try:
            await origin.fetch(path, sink)
        finally:
            await origin.close()


def _palette(file: Path, limits: "Limits") -> list[dict[str, Any]]:
    """The most common colors with their shares, as `f_palette` returns them."""
    import json

    from imgserver.engine.job import Job
    from imgserver.engine.render import render
    from imgserver.plan.plan import Orient, Plan, Terminal

    result = render(Job(str(file), Plan((Orient(),), terminal=Terminal("palette", COLORS)), limits))
    return list(json.loads(result.body))


def _print_table(file: str, description: "Description", palette: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("file", Text(redact(file)))
    for name, value in _rows(description):
        table.add_row(name, Text(value))
    swatches = [Text.assemble(("██ ", row["color"]), f"{row['color']} {row['share']:.0%}") for row in palette]
    table.add_row("palette", Text("\n").join(swatches))
    print_table(table)


def _rows(of: "Description") -> list[tuple[str, str]]:
    turned = "" if of.orientation == 1 else f", before EXIF orientation {of.orientation}"
    kinds: dict[Any, str] = {None: "none (sRGB is assumed)", "": "unnamed"}
    frames = f"{of.frames}, {sum(of.delays) / 1000:g} s" if of.delays else str(of.frames)
    return [
        ("format", f"{of.format}{', interlaced' if of.interlaced else ''}, {of.bytes} bytes"),
        ("size", f"{of.width}×{of.height} px{turned}"),
        ("samples", f"{of.bands} bands of {of.bits} bits, {of.interpretation}"),
        ("alpha", "yes" if of.alpha else "no"),
        ("frames", frames),
        ("profile", kinds.get(of.profile, of.profile or "")),
        ("GPS position", "present; removed from every result" if of.has_place else "none"),
        *of.exif.items(),
    ]
