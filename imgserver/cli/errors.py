"""The error boundary of the command line: one sentence on standard error and an exit code, never a traceback."""

import signal
import sys
from typing import Any, NoReturn

import click

from imgserver.errors import ImgserverError
from imgserver.security.redaction import redact


class CommandGroup(click.Group):
    """The group of all commands. Turns ImgserverError and OSError into a message and exit code 1, and Ctrl-C into the
    exit code of shells for it, 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImgserverError as error:
            fail(error.detail)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:  # click exits quietly when `| head` closes the pipe
            raise
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def fail(message: str) -> NoReturn:
    """Ends the command with exit code 1 and the message, in which secrets of URLs are masked."""
    raise click.ClickException(redact(message))
