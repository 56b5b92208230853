"""Dialects: how a request target becomes a value. Each is a table of options and one emission table.

To write another: a module here with `parse`, rows of options of its own, and a table that emits steps of `plan.py` in
the order that dialect promises. Nothing below knows its name, and nothing after it looks at the URL again.
"""

from typing import Protocol

from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest


class Dialect(Protocol):
    """Pure: no I/O, no clock, no state. Called once per request, before anything else is decided."""

    def parse(self, raw_target: str, hints: Hints = NO_HINTS) -> ImageRequest:
        """The request a target means to a client with these hints; `ImageRequest.hints` tells which of them count.

        `raw_target` is the request target exactly as received, query included: nothing decoded, nothing repaired.
        Raises errors of `errors.py` and no others, whatever the text: NotFound outside this dialect's mount,
        TargetTooLong, BadRequest and its kinds, Forbidden and its kinds, Expired, NotInThisBuild.
        """
        ...
