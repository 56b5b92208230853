"""`imgserver api-keys`: keys for uploads, purging and metrics. Only a digest of each is configured."""

from pathlib import Path

import click

from imgserver.cli.config import config_option, read_settings
from imgserver.cli.errors import fail


@click.group("api-keys")
def api_keys() -> None:
    """Make API keys, or list those of the settings.

    \b
    Examples:
      imgserver api-keys new ci --scope upload
      imgserver api-keys list --config imgserver.toml

    \b
    Exit codes: 0 done, 1 a setting or an id is wrong, 2 wrong command line.
    """


@api_keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(("upload", "purge", "metrics", "admin")),
    help="What it opens; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def new(name: str, *, scopes: tuple[str, ...], as_json: bool, config: Path | None) -> None:
    """Print a new key for NAME, once, and the lines to configure.

    When the settings have a key of that name, the lines keep it working beside the new one until old_digest is
    removed.

    \b
    Examples:
      imgserver api-keys new ci --scope upload
      imgserver api-keys new ops --scope purge --scope metrics --json
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
    click.echo(f"key, shown this once:\n  {key}\n")
    click.echo(f"imgserver.toml:\n  [api_keys.{name}]")
    for setting, value in row.items():
        click.echo(f'  {setting} = "{value}"')
    click.echo("\nor variables:")
    for setting, value in row.items():
        click.echo(f'  {_variable(name, setting)}="{value}"')


@api_keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def list_keys(*, as_json: bool, config: Path | None) -> None:
    """Print ids and scopes of the keys in the settings; the keys themselves nobody knows any more.

    \b
    Example:
      imgserver api-keys list --config imgserver.toml
    """
    rows = read_settings(config).settings.api_keys
    if as_json:
        import json

        facts = [{"name": name, "scopes": row.scopes.split(), "live": len(row.digests)} for name, row in rows.items()]
        click.echo(json.dumps(facts, indent=2))
        return
    for name, row in rows.items():
        click.echo(f"{name}: {row.scopes}{'; two keys are live' if row.old_digest else ''}")
    if not rows:
        click.echo("no API keys are configured", err=True)


def _variable(name: str, setting: str) -> str:
    return f"IMGSERVER_API_KEYS_{name}_{setting}".upper().replace("-", "_")
