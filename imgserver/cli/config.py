"""`imgserver config`: effective settings with their origins, validation of files, a commented sample."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click

from imgserver.cli.options import check_start, config_option, read_settings
from imgserver.cli.tables import print_table

HIDDEN = "(hidden)"


class _Row(NamedTuple):
    """One effective value: as JSON has it, as a person writes it, and where it comes from."""

    value: object
    text: str
    origin: str


@click.group(invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show the settings, check a file, or print a sample. Without a subcommand: show.

    \b
    Examples:
      imgserver config                              # every value and its origin
      imgserver config show --json --config imgserver.toml
      imgserver config check imgserver.toml
      imgserver config check config/security.yaml
      imgserver config init > imgserver.toml

    \b
    Exit codes: 0 valid, 1 a setting is invalid, 2 wrong command line.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(*, config: Path | None = None, as_json: bool = False) -> None:
    """Print every effective setting with its origin.

    The rules of the security policy follow the settings. Secrets are hidden.

    \b
    Examples:
      imgserver config show --config imgserver.toml
      IMGSERVER_WORKERS_COUNT=4 imgserver config show --json

    \b
    Exit codes: 0 printed, 1 a setting is invalid, 2 wrong command line.
    """
    from imgserver.security.redaction import redact, redact_all
    from imgserver.settings.describe import format_value
    from imgserver.settings.names import SECRETS, pattern_of, values

    loaded = read_settings(config)
    settings = {}
    for name, value in values(loaded.settings).items():
        shown = HIDDEN if value and pattern_of(name) in SECRETS else value
        text = redact(format_value(name, shown))
        settings[name] = _Row(text if isinstance(value, Path) else redact_all(shown), text, str(loaded.origins[name]))
    policy = _policy_rows(loaded.settings.security.policy)
    if as_json:
        import json

        rows = {name: {"value": row.value, "origin": row.origin} for name, row in (settings | policy).items()}
        click.echo(json.dumps(rows, indent=2))
    else:
        _print_table("setting", settings)
        click.echo()
        _print_table("policy", policy)


@config.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def check(file: Path) -> None:
    """Validate a settings file or a policy file.

    Names every error for which `imgserver serve` would not start, except for the port. FILE is TOML with settings,
    whose policy, folders and sources are validated as well, or YAML with a policy. Variables of this shell are ignored
    except for secrets such as IMGSERVER_SIGNING_KEYS, which do not belong in a file.

    \b
    Examples:
      imgserver config check imgserver.toml
      imgserver config check config/security.yaml

    \b
    Exit codes: 0 valid, 1 an entry is invalid, 2 wrong command line.
    """
    if file.suffix in (".yaml", ".yml"):
        _check_policy(file)
        return
    from imgserver.settings.names import SECRETS, variable

    secrets = {name: os.environ[name] for name in map(variable, SECRETS) if name in os.environ}
    loaded = check_start(file, secrets)
    count = sum(origin.kind == "file" for origin in loaded.origins.values())
    click.echo(f"{file}: valid, {count} settings")
    if loaded.settings.security.policy != Path():
        _check_policy(loaded.settings.security.policy)


@config.command()
@click.option("--markdown", is_flag=True, help="Print the reference page instead.")
def init(markdown: bool) -> None:
    """Print a settings file with all defaults, commented out.

    \b
    Example:
      imgserver config init > imgserver.toml

    \b
    Exit codes: 0 printed, 2 wrong command line.
    """
    from imgserver.settings import reference

    click.echo(reference.markdown() if markdown else reference.sample(), nl=False)


def _check_policy(path: Path) -> None:
    from imgserver.security.policy import Policy
    from imgserver.settings.policy_file import load, values

    defaults = values(Policy())
    count = sum(value != defaults[name] for name, value in values(load(path)).items())
    click.echo(f"{path}: valid, {count} rules differ from the defaults")


def _policy_rows(path: Path) -> dict[str, _Row]:
    from imgserver.security.policy import Policy
    from imgserver.settings.policy_file import format_value, load, values

    policy, defaults = load(path) if path != Path() else Policy(), values(Policy())
    rows = {}
    for name, value in values(policy).items():
        text, origin = format_value(value), "default" if value == defaults[name] else f"file {path}"
        rows[f"policy.{name}"] = _Row(text, text, origin)
    return rows


def _print_table(title: str, rows: Mapping[str, _Row]) -> None:
    """Defaults are dim, so that the changed values stand out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (title, "value", "origin"):
        table.add_column(column, overflow="fold")
    for name, row in rows.items():
        style = "dim" if row.origin == "default" else ""
        table.add_row(Text(name), Text(row.text), Text(row.origin), style=style)
    print_table(table)
