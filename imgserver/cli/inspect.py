"""`imgserver inspect`: what a picture file says about itself."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgserver.cli.boundary import fail
from imgserver.cli.config import config_option, read_settings
from imgserver.errors import ImgserverError

if TYPE_CHECKING:
    from imgserver.engine.description import Description
    from imgserver.engine.job import Limits

COLOURS = 5


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def inspect(file: Path, *, as_json: bool, config: Path | None) -> None:
    """Print size, format, EXIF, colour profile, frames and palette of FILE.

    Of the place in EXIF only whether it is there. The size is as stored, before EXIF turns it upright.

    \b
    Examples:
      imgserver inspect photo.jpg
      imgserver inspect --json party.gif

    \b
    Exit codes: 0 read, 1 not a picture this build reads, or over a limit, 2 wrong command line.
    """
    limits = read_settings(config).settings.limits
    from imgserver.engine.description import describe
    from imgserver.engine.vips import open_engine

    open_engine(svg=limits.svg)
    try:
        description, palette = describe(str(file), limits), _palette(file, limits)
    except ImgserverError as error:
        fail(f"{file}: {error.detail}")
    if as_json:
        import json

        click.echo(json.dumps({"file": str(file), **asdict(description), "palette": palette}, indent=2))
    else:
        _print_table(file, description, palette)


def _palette(file: Path, limits: "Limits") -> list[dict[str, Any]]:
    """The most common colours with their shares, as the server's `f_palette` tells them."""
    import json

    from imgserver.engine.job import Job
    from imgserver.engine.render import render
    from imgserver.plan import Orient, Plan, Terminal

    result = render(Job(str(file), Plan((Orient(),), terminal=Terminal("palette", COLOURS)), limits))
    return list(json.loads(result.body))


def _print_table(file: Path, description: "Description", palette: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("file", Text(str(file)))
    for name, value in _rows(description):
        table.add_row(name, Text(value))
    swatches = [Text.assemble(("██ ", row["colour"]), f"{row['colour']} {row['share']:.0%}") for row in palette]
    table.add_row("palette", Text("\n").join(swatches))
    Console().print(table)


def _rows(of: "Description") -> list[tuple[str, str]]:
    turned = "" if of.orientation == 1 else f", to be turned upright (EXIF orientation {of.orientation})"
    kinds: dict[Any, str] = {None: "none (sRGB is assumed)", "": "one without a name"}
    frames = f"{of.frames}, {sum(of.delays) / 1000:g} s" if of.delays else str(of.frames)
    return [
        ("format", f"{of.format}{', interlaced' if of.interlaced else ''}, {of.bytes} bytes"),
        ("size", f"{of.width}×{of.height} px{turned}"),
        ("samples", f"{of.bands} bands of {of.bits} bits, {of.interpretation}"),
        ("alpha", "yes" if of.alpha else "no"),
        ("frames", frames),
        ("profile", kinds.get(of.profile, of.profile or "")),
        ("place (GPS)", "present; removed from every result" if of.has_place else "none"),
        *of.exif.items(),
    ]
