"""The checks of `imgserver doctor`: the machine, the services that the settings name, and the codecs.

Wherever it is possible, a check uses the thing that it is about: it binds the port, connects to Redis, encodes and
decodes an image.
"""

from collections.abc import Iterator

from imgserver.cli.checks import codecs, machine, services
from imgserver.cli.checks.check import Check as Check
from imgserver.settings.schema import Settings


def run(settings: Settings) -> Iterator[Check]:
    """Yields every check, in the order in which they are shown."""
    yield from machine.run(settings)
    yield from services.run(settings)
    yield from codecs.run()
