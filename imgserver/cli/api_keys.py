"""`imgserver api-keys`: creates API keys for uploads, purges and metrics. The settings hold only a digest of each."""

from pathlib import Path

import click

from imgserver.cli.errors import fail
from imgserver.cli.options import config_option, read_settings


@click.group("api-keys")
def api_keys() -> None:
    """Create API keys, or list the configured ones.

    \b
    Examples:
      imgserver api-keys new ci --scope upload
      imgserver api-keys list --config imgserver.toml

    \b
    Exit codes: 0 done, 1 a setting or an id is invalid, 2 wrong command line.
    """


@api_keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(("upload", "purge", "metrics", "admin")),
    help="What the key opens; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def new(name: str, *, scopes: tuple[str, ...], as_json: bool, config: Path | None) -> None:
    """Print a new key and the lines that configure it.

    NAME is the id of the key. The key is not shown again. If the settings have a key with this id, the lines keep it
    valid besides the new one until old_digest is removed.

    \b
    Examples:
      imgserver api-keys new ci --scope upload
      imgserver api-keys new ops --scope purge --scope metrics --json

    \b
    Exit codes: 0 printed, 1 a setting or the id is invalid, 2 wrong command line.
    """
    from imgserver.security.api_keys import digest_of, new_key

    try:
        key = new_key(name)
    except ValueError as error:
        fail(str(error))
    known = read_settings(config).settings.api_keys.get(name)
    row = {"scopes": " ".join(dict.fromkeys(scopes)), "digest": digest_of(key)}
    row |= {"old_digest": known.digest} if known else {}
    if as_json:
        import json

        click.echo(json.dumps({"name": name, "key": key, **row}, indent=2))
        return
    click.echo(f"key, not shown again:\n  {key}\n")
    click.echo(f"imgserver.toml:\n  [api_keys.{name}]")
    for setting, value in row.items():
        click.echo(f'  {setting} = "{value}"')
    click.echo("\nor as variables:")
    for setting, value in row.items():
        click.echo(f'  {_variable(name, setting)}="{value}"')


@api_keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def list_keys(*, as_json: bool, config: Path | None) -> None:
    """Print the ids and scopes of the configured keys.

    The keys themselves are not stored.

    \b
    Example:
      imgserver api-keys list --config imgserver.toml

    \b
    Exit codes: 0 printed, 1 the settings are invalid, 2 wrong command line.
    """
    rows = read_settings(config).settings.api_keys
    if as_json:
        import json

        facts = [{"name": name, "scopes": row.scopes.split(), "keys": len(row.digests)} for name, row in rows.items()]
        click.echo(json.dumps(facts, indent=2))
        return
    for name, row in rows.items():
        click.echo(f"{name}: {row.scopes}{'; two keys are valid' if row.old_digest else ''}")
    if not rows:
        click.echo("no API keys are configured", err=True)


def _variable(name: str, setting: str) -> str:
    from imgserver.settings.names import variable

    return variable(f"api_keys.{name}.{setting}")
