"""`imgserver keys`: makes signing keys, puts new ones in front, and tells which there are without showing them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgserver.cli.config import config_option, read_settings

if TYPE_CHECKING:
    from imgserver.security.signing import Key

NEW_BYTES = 32
HOW_TO_SET = 'Set the line as it is: keys = "..." below [signing] in the file, or the variable IMGSERVER_SIGNING_KEYS.'
HOW_TO_END = (
    "A server reads its file again on SIGHUP. "
    "When no page and no cache holds a URL of the last key any more, take that out of the line."
)


def _source_option(command: click.decorators.FC) -> click.decorators.FC:
    told = "A source the new key is for; may be repeated.  [default: all]"
    return click.option("--source", "sources", metavar="NAME", multiple=True, help=told)(command)


@click.group()
def keys() -> None:
    """Make, rotate and list the keys that sign URLs (signing.keys).

    \b
    Examples:
      imgserver keys new
      imgserver keys rotate --config imgserver.toml
      imgserver keys list --config imgserver.toml

    \b
    Exit codes: 0 done, 1 the settings are wrong, 2 wrong command line.
    """


@keys.command()
@_source_option
def new(*, sources: tuple[str, ...]) -> None:
    """Print a new key of 32 random bytes on standard output, and how to set it on standard error.

    \b
    Examples:
      imgserver keys new
      export IMGSERVER_SIGNING_KEYS=$(imgserver keys new)
    """
    made = _make(sources)
    click.echo(made.spell())
    click.echo(f"Key {made.id}. {HOW_TO_SET}", err=True)


@keys.command()
@_source_option
@config_option
def rotate(*, sources: tuple[str, ...], config: Path | None) -> None:
    """Print the keys of the settings with a new one in front, as one line, and what comes next on standard error.

    \b
    Examples:
      imgserver keys rotate --config imgserver.toml
      export IMGSERVER_SIGNING_KEYS=$(imgserver keys rotate)
    """
    ring = [_make(sources), *_configured(config)]
    click.echo(",".join(key.spell() for key in ring))
    click.echo(f"Key {ring[0].id} is new: it signs, the others still verify. {HOW_TO_SET}\n{HOW_TO_END}", err=True)


@keys.command(name="list")
@config_option
def list_keys(*, config: Path | None) -> None:
    """Print the id, the use and the sources of every key in order; never the key.

    \b
    Example:
      imgserver keys list --config imgserver.toml
    """
    ring = _configured(config)
    if not ring:
        click.echo("no keys; `imgserver keys new` makes one", err=True)
    signed_for: set[str] = set()
    for key in ring:
        click.echo(f"{key.id}  {_use(key, signed_for)}  {', '.join(sorted(key.sources)) or 'all sources'}")
        signed_for |= key.sources or {""}


def _use(key: "Key", signed_for: set[str]) -> str:
    """A key signs where no key in front of it does; `signed_for` holds "" once one for all sources has come."""
    signs = "" not in signed_for and not (key.sources and key.sources <= signed_for)
    return "signs, verifies" if signs else "verifies       "


def _make(sources: tuple[str, ...]) -> "Key":
    import secrets

    from imgserver.security.signing import Key, read_key

    made = Key(secrets.token_bytes(NEW_BYTES), frozenset(sources))
    try:
        return read_key(made.spell())
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--source") from None


def _configured(config: Path | None) -> list["Key"]:
    from imgserver.security.signing import read_key

    return [read_key(text) for text in read_settings(config).settings.signing.keys]
