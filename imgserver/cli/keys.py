"""`imgserver keys`: creates and rotates the keys that sign URLs, and lists them without showing them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgserver.cli.options import config_option, read_settings

if TYPE_CHECKING:
    from imgserver.security.signing import SigningKey

NEW_BYTES = 32
HOW_TO_SET = (
    'Put every key of the line into the list keys = ["KEY", "KEY"] below [signing] in the file, '
    "or the whole line into the variable IMGSERVER_SIGNING_KEYS."
)
HOW_TO_END = (
    "A running server reads its file again on SIGHUP. "
    "Remove the last key when no page and no cache has a URL that it signed."
)


def _source_option(command: click.decorators.FC) -> click.decorators.FC:
    text = "Source that the new key is valid for; may be repeated.  [default: all]"
    return click.option("--source", "sources", metavar="NAME", multiple=True, help=text)(command)


@click.group()
def keys() -> None:
    """Create, rotate and list the keys that sign URLs (signing.keys).

    \b
    Examples:
      imgserver keys new
      imgserver keys rotate --config imgserver.toml
      imgserver keys list --config imgserver.toml

    \b
    Exit codes: 0 done, 1 the settings are invalid, 2 wrong command line.
    """


@keys.command()
@_source_option
def new(*, sources: tuple[str, ...]) -> None:
    """Print a new key.

    The key has 32 random bytes and is the only line on standard output; how to use it is on standard error.

    \b
    Examples:
      imgserver keys new
      export IMGSERVER_SIGNING_KEYS=$(imgserver keys new)

    \b
    Exit codes: 0 printed, 2 wrong command line.
    """
    key = _create(sources)
    click.echo(key.serialize())
    click.echo(f"Key {key.id}. {HOW_TO_SET}", err=True)


@keys.command()
@_source_option
@config_option
def rotate(*, sources: tuple[str, ...], config: Path | None) -> None:
    """Print the configured keys with a new one in front.

    The keys are one line on standard output; the next steps are on standard error.

    \b
    Examples:
      imgserver keys rotate --config imgserver.toml
      export IMGSERVER_SIGNING_KEYS=$(imgserver keys rotate)

    \b
    Exit codes: 0 printed, 1 the settings are invalid, 2 wrong command line.
    """
    ring = [_create(sources), *_configured(config)]
    click.echo(",".join(key.serialize() for key in ring))
    click.echo(f"Key {ring[0].id} is new and signs; the others still verify. {HOW_TO_SET}\n{HOW_TO_END}", err=True)


@keys.command(name="list")
@config_option
def list_keys(*, config: Path | None) -> None:
    """Print the ids of the configured keys.

    In order, with the use and the sources of each, and never the key itself.

    \b
    Example:
      imgserver keys list --config imgserver.toml

    \b
    Exit codes: 0 printed, 1 the settings are invalid, 2 wrong command line.
    """
    ring = _configured(config)
    if not ring:
        click.echo("no keys are configured; `imgserver keys new` creates one", err=True)
    signed_for: set[str] = set()
    for key in ring:
        click.echo(f"{key.id}  {_use(key, signed_for)}  {', '.join(sorted(key.sources)) or 'all sources'}")
        signed_for |= key.sources or {""}


def _use(key: "SigningKey", signed_for: set[str]) -> str:
    """A key signs for the sources for which no key before it signs; "" in `signed_for` means all sources."""
    signs = "" not in signed_for and not (key.sources and key.sources <= signed_for)
    return "signs, verifies" if signs else "verifies       "


def _create(sources: tuple[str, ...]) -> "SigningKey":
    import secrets

    from imgserver.security.signing import SigningKey, read_key

    key = SigningKey(secrets.token_bytes(NEW_BYTES), frozenset(sources))
    try:
        return read_key(key.serialize())
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--source") from None


def _configured(config: Path | None) -> list["SigningKey"]:
    from imgserver.security.signing import read_key

    return [read_key(text) for text in read_settings(config).settings.signing.keys]
