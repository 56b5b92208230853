"""`imgserver optimize`: makes many image files smaller, without a server."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgserver.cli.options import config_option, read_settings
from imgserver.cli.tables import print_table

if TYPE_CHECKING:
    from imgserver.cli.batch import Outcome, Task
    from imgserver.plan.plan import Plan
    from imgserver.settings.schema import Settings


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...", type=click.Path(path_type=Path, exists=True))
@click.option("--output", "-o", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Write to DIR.")
@click.option("--in-place", is_flag=True, help="Replace each file if the result is smaller.")
@click.option("--options", metavar="OPTIONS", default="", help="Transformations as in a URL: w_1600,q_80.")
@click.option("--workers", type=int, help="Worker processes; 0: one per CPU.  [default: 0]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def optimize(
    files: tuple[Path, ...],
    *,
    output: Path | None,
    in_place: bool,
    options: str,
    workers: int | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Make image files smaller, without a server.

    Metadata is removed and pixels are encoded again; no file becomes larger unless --options requests it. FILES are
    images and folders with images. Without --output and --in-place nothing is written; the table shows what would be
    saved. An image that cannot be read does not stop the others. No frame or page is lost: a file that would lose one
    is left as it is, and with --output it is an error, unless --options names a frame (fl_still, pg_2).

    \b
    Examples:
      imgserver optimize photos/*.jpg -o small
      imgserver optimize photos --in-place
      imgserver optimize photos -o web --options w_1600,f_webp
      imgserver optimize photo.jpg --json

    \b
    Exit codes: 0 all optimized, 1 some failed, 2 wrong command line.
    """
    if output and in_place:
        raise click.UsageError("--output and --in-place exclude each other")
    from imgserver.cli.batch_tasks import make_tasks

    settings = read_settings(config, **{"workers.count": workers}).settings
    plan = _plan(options, settings)
    tasks = make_tasks(files, output, plan, in_place=in_place)
    if not tasks:
        click.echo("There are no images.", err=True)
    done = _run(tasks, plan, settings)
    if as_json:
        _print_json(done)
    else:
        _print_table(done)
        if tasks and not (output or in_place):
            click.echo("Nothing was written: give -o DIR or --in-place.", err=True)
    if any(one.error for one in done):
        raise click.exceptions.Exit(1)


def _plan(options: str, settings: "Settings") -> "Plan":
    from imgserver.web.uploads.parameters import ParameterParser

    plan = ParameterParser(settings.native, settings.presets).parse([("options", options)]).plan(None)
    if plan.terminal.kind != "image":
        raise click.UsageError("--options must result in an image; f_info and the like are for `imgserver get`")
    return plan


def _run(tasks: "list[Task]", plan: "Plan", settings: "Settings") -> "list[Outcome]":
    import asyncio

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from imgserver.cli.batch import run

    console = Console(stderr=True)
    columns = (TextColumn("optimizing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(tasks))
        return asyncio.run(run(tasks, plan, settings, on_done=lambda _: progress.advance(bar)))


def _print_json(done: "list[Outcome]") -> None:
    import json

    rows = [
        {
            "file": str(one.file),
            **(
                {"error": one.error}
                if one.error
                else {"before": one.before, "after": one.after, "saved": round(_saved(one.before, one.after), 4)}
                | {"outcome": one.outcome, "written": str(one.written) if one.written else None}
                | {name: text for name in ("reason", "left_out") if (text := getattr(one, name))}
            ),
        }
        for one in done
    ]
    before, after = _sums(done)
    total = {"before": before, "after": after, "saved": round(_saved(before, after), 4)}
    click.echo(json.dumps({"files": rows, "total": total}, indent=2))


def _print_table(done: "list[Outcome]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=len(done) > 1, footer_style="bold")
    before, after = _sums(done)
    made = sum(not one.error for one in done)
    table.add_column("file", f"{made} of {len(done)}", overflow="fold")
    for title, footer in (("before", _size(before)), ("after", _size(after)), ("saved", _percent(before, after))):
        table.add_column(title, footer, justify="right")
    table.add_column("")
    for one in done:
        if one.error:
            table.add_row(Text(str(one.file)), "", "", "", Text(one.error, style="red"))
        else:
            note = _note(one)
            sizes = (_size(one.before), _size(one.after), _percent(one.before, one.after))
            table.add_row(Text(str(one.file)), *sizes, Text(note, style="dim"))
    print_table(table)


NOTES = {
    "original": "only metadata removed",
    "larger": "larger, as requested",
    "kept": "unchanged",
}


def _note(one: "Outcome") -> str:
    notes = (
        NOTES.get(one.outcome, "") + f": {one.reason}" * bool(one.reason),
        f"without {one.left_out}" * bool(one.left_out),
    )
    return ", ".join(filter(None, notes))


def _sums(done: "list[Outcome]") -> tuple[int, int]:
    return sum(one.before for one in done), sum(one.after for one in done)


def _saved(before: int, after: int) -> float:
    return 1 - after / before if before else 0.0


def _percent(before: int, after: int) -> str:
    return f"{_saved(before, after):.0%}" if before else ""


def _size(count: int) -> str:
    return f"{count / 1000:,.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:,.2f} MB"
