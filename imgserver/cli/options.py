"""Options that several commands share, and the settings that they read."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgserver.cli.errors import fail

if TYPE_CHECKING:
    from imgserver.settings.loader import Loaded


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--config` to a command that reads settings."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings file (TOML).  [default: IMGSERVER_CONFIG]",
    )(command)


def read_settings(config: Path | None, **options: object) -> "Loaded":
    """The settings of the file, of this process's environment and of the options that are not None.

    `options` maps dotted names of settings to values. Raises BadSettings.
    """
    from imgserver.settings.loader import load

    return load(config, os.environ, {name: value for name, value in options.items() if value is not None})


def check_start(config: Path | None, environ: Mapping[str, str], **options: object) -> "Loaded":
    """The settings of a server that can start with them; otherwise as `read_settings`.

    Ends the command with exit code 1 and every fault, of the settings and of what they lead to.
    """
    from imgserver.settings.loader import load_valid
    from imgserver.web.startup_check import find_faults

    loaded, faults = load_valid(config, environ, {name: value for name, value in options.items() if value is not None})
    faults += tuple(find_faults(loaded.settings, root_from=str(loaded.origins["source.root"])))
    if faults:
        fail("\n".join(dict.fromkeys(faults)))
    return loaded


def source_options(text: str | None) -> dict[str, object]:
    """The settings that make a folder or a URL the default source, whichever of the two the settings name."""
    if text is None:
        return {}
    return {"source.url": text, "source.root": "."} if "://" in text else {"source.root": text, "source.url": ""}


def server_options(*, timeout_seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds `--server` and `--timeout` to a command that sends a request to a running server."""
    server = click.option(
        "--server", metavar="URL", default="http://127.0.0.1:8080", show_default=True, help="Address of the server."
    )
    timeout = click.option(
        "--timeout",
        metavar="SECONDS",
        type=click.FloatRange(0, 600, min_open=True),
        default=timeout_seconds,
        show_default=True,
        help="How long to wait for the response.",
    )
    return lambda command: server(timeout(command))
