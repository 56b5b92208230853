"""Where errors of ours end: one sentence on standard error and an exit code, no traceback."""

from typing import Any, NoReturn

import click

from imgserver.errors import ImgserverError


class Commands(click.Group):
    """The group of all commands; what they raise on purpose becomes a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImgserverError as error:
            fail(error.detail)
        except BrokenPipeError:  # click ends quietly when `| head` has seen enough
            raise
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def fail(sentence: str) -> NoReturn:
    """Ends the command with exit code 1."""
    raise click.ClickException(sentence)
