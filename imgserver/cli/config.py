"""`imgserver config`: effective settings with their origins, strict checks, a commented sample."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from imgserver.settings.loader import Loaded


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--config`, the same for every command that reads settings."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings in TOML.  [default: IMGSERVER_CONFIG]",
    )(command)


def read_settings(config: Path | None, **options: object) -> "Loaded":
    """Settings of the file, this process's environment and those options that were given (not None)."""
    from imgserver.settings.loader import load

    return load(config, os.environ, {name: value for name, value in options.items() if value is not None})


def place_of(text: str | None) -> dict[str, object]:
    """Settings of the default source: a folder or an address, in the place of either in the settings."""
    if text is None:
        return {}
    return {"source.url": text, "source.root": "."} if "://" in text else {"source.root": text, "source.url": ""}


@click.group(invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show, check or begin the settings; alone, the same as show.

    \b
    Examples:
      imgserver config                              # every value and where it comes from
      imgserver config show --json --config imgserver.toml
      imgserver config check imgserver.toml
      imgserver config check config/security.yaml
      imgserver config init > imgserver.toml

    \b
    Exit codes: 0 fine, 1 a setting is wrong, 2 wrong command line.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(*, config: Path | None = None, as_json: bool = False) -> None:
    """Print every effective value with its origin, the policy's rules after the settings.

    \b
    Example:
      IMGSERVER_WORKERS_COUNT=4 imgserver config show
    """
    from imgserver.settings.describe import format_value
    from imgserver.settings.names import SECRETS, pattern_of, values

    loaded = read_settings(config)
    rows = {
        name: ("(hidden)" if value and pattern_of(name) in SECRETS else value, str(loaded.origins[name]))
        for name, value in values(loaded.settings).items()
    }
    rules = _policy_rows(loaded.settings.security.policy)
    if as_json:
        import json

        click.echo(
            json.dumps(
                {
                    name: {"value": format_value(name, v) if isinstance(v, Path) else v, "origin": o}
                    for name, (v, o) in (rows | rules).items()
                },
                indent=2,
            )
        )
        return
    _print_table(rows)
    click.echo()
    _print_table(rules)


@config.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def check(file: Path) -> None:
    """Check FILE alone; names every fault. Settings in TOML, with the policy that they name, or a policy in YAML.

    Of this shell's variables only secrets count, such as IMGSERVER_SIGNING_KEYS: a file is no place for them.

    \b
    Examples:
      imgserver config check imgserver.toml
      imgserver config check config/security.yaml
    """
    if file.suffix in (".yaml", ".yml"):
        _check_policy(file)
        return
    from imgserver.settings.loader import load
    from imgserver.settings.names import SECRETS, variable

    secrets = {name: os.environ[name] for name in map(variable, SECRETS) if name in os.environ}
    loaded = load(file, secrets, {})
    count = sum(origin.kind == "file" for origin in loaded.origins.values())
    click.echo(f"{file}: fine, {count} settings")
    if loaded.settings.security.policy != Path():
        _check_policy(loaded.settings.security.policy)


@config.command()
@click.option("--markdown", is_flag=True, help="The same as a reference page.")
def init(markdown: bool) -> None:
    """Print a commented file with every setting and its default.

    \b
    Example:
      imgserver config init > imgserver.toml
    """
    from imgserver.settings import reference

    click.echo(reference.markdown() if markdown else reference.sample(), nl=False)


def _check_policy(path: Path) -> None:
    from imgserver.security.policy import Policy
    from imgserver.settings.policy_file import load, values

    built_in = values(Policy())
    count = sum(value != built_in[name] for name, value in values(load(path)).items())
    click.echo(f"{path}: fine, {count} rules differ from the built-in ones")


def _policy_rows(path: Path) -> dict[str, tuple[object, str]]:
    from imgserver.security.policy import Policy
    from imgserver.settings.policy_file import format_value, load, values

    origin = f"file {path}" if path != Path() else "default"
    policy, built_in = load(path) if path != Path() else Policy(), values(Policy())
    return {
        f"policy.{name}": (format_value(value), origin if value != built_in[name] else "default")
        for name, value in values(policy).items()
    }


def _print_table(rows: dict[str, tuple[object, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from imgserver.settings.describe import format_value

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "value", "origin"):
        table.add_column(column, overflow="fold")
    for name, (value, origin) in rows.items():
        style = "dim" if origin == "default" else ""
        table.add_row(name, format_value(name, value), origin, style=style)
    Console(soft_wrap=True).print(table)
