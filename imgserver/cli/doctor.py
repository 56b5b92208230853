"""`imgserver doctor`: finds what is missing on this machine, and says how to repair it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgserver.cli.options import config_option, read_settings
from imgserver.cli.tables import print_table
from imgserver.security.redaction import redact, redact_all

if TYPE_CHECKING:
    from imgserver.cli.checks import Check


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool, config: Path | None) -> None:
    """Check whether the server can work on this machine.

    Says how to repair what fails. Checks Python, libvips and every codec by using it, fonts, CPUs, memory, open
    files, the port, and whether Redis and each source answer.

    ✓ is fine, ! could be better, ✗ must be repaired before the server can work.

    \b
    Examples:
      imgserver doctor
      imgserver doctor --json --config imgserver.toml

    \b
    Exit codes: 0 nothing must be repaired, 1 something must, 2 wrong command line.
    """
    from imgserver.cli import checks

    found = list(checks.run(read_settings(config).settings))
    if as_json:
        import json

        click.echo(json.dumps(redact_all([asdict(check) for check in found]), indent=2))
    else:
        _print_table(found)
    ctx.exit(1 if any(check.needed and not check.ok for check in found) else 0)


def _print_table(found: "list[Check]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for check in found:
        mark, style = ("✓", "green") if check.ok else ("✗", "red") if check.needed else ("!", "yellow")
        found_text = redact(check.found)
        result = Text(found_text) if not check.fix else Text.assemble(found_text, "\n", (f"→ {check.fix}", "bold"))
        table.add_row(Text(mark, style), Text(check.name), result)
    print_table(table)
    click.echo(f"\n{_summary(found)}")


def _summary(found: "list[Check]") -> str:
    """`26 checks: 1 must be repaired, 2 could be better`."""
    broken = sum(check.needed and not check.ok for check in found)
    better = sum(not check.needed and not check.ok for check in found)
    parts = [f"{broken} must be repaired"] * bool(broken) + [f"{better} could be better"] * bool(better)
    return f"{len(found)} checks: {', '.join(parts) or 'all fine'}"
