"""Sources: where originals come from.

To write another: a class with the methods of `Source`, errors of `imgserver.errors`, and the shipped contract in
its tests. A source gives local paths, never open connections: a worker must be able to read the original by itself,
and no worker is held while it is fetched.

What is far away is an `Origin` (origin.py), which only answers; an `OriginCache` in front makes it a source. To
write an origin: three methods, and the contract of origins.
"""

from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from imgserver.plan.rendition import Fingerprint, Original


class Source(Protocol):
    """`open` yields the original and keeps it readable inside the `async with`; `fingerprint` only looks.

    `fetch` is called before `open`, by whoever holds nothing that others need: it returns when the original is on this
    machine, so that `open` need not wait for anything far away. What is here already is brought at once. A source
    bounds how many wait in it, and refuses the others with Unavailable.

    All raise NotFound for whatever is absent, outside, or no regular file (one text for all: a stranger learns
    nothing from it), and Unavailable when the source itself cannot be reached; `open` raises it at its end as well, if
    the original was written over while it was read. Paths arrive decoded, without empty or dot segments.
    """

    def open(self, path: str) -> AbstractAsyncContextManager[Original]: ...

    async def fingerprint(self, path: str) -> Fingerprint: ...

    async def fetch(self, path: str) -> None: ...


@runtime_checkable
class Listed(Protocol):
    """A source, or an origin, that can tell what there is."""

    async def pictures(self, limit: int) -> list[str]:
        """Paths of the first `limit` files that are named like pictures, none hidden. Raises what `open` raises; a
        source whose origin cannot be listed has none."""
        ...


@runtime_checkable
class Writable(Protocol):
    """A source that also keeps what is given to it, whole or not at all: a reader sees the old file or the new one."""

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:
        """Raises NotFound for a path that is none, SourceDenied where writing is not allowed, Conflict when there is
        such a file and it is not to be replaced, Unavailable when it cannot be written now."""
        ...
