"""Caches: where renditions are kept.

A cache may lose anything at any time and must never give a wrong picture: whatever is odd about an entry makes it a
miss. Keys come from `identity.key`.

Memory stands in front (`memory.py`); disk (`shelf.py`, `disk.py`) and Redis (`redis.py`, guarded by `breaker.py`) keep
records (`record.py`) behind it, and `tiered.py` is all of them as one. What was purged is told by generations
(`generations.py`),
of the groups in `groups.py`, and removed behind the answer (`sweeps.py`). To write another tier, keep to `Tier` and run
`imgserver.testing.TierContract` on it.
"""

from typing import Protocol

from imgserver.plan.rendition import Rendition


class Cache(Protocol):
    """`get` answers None for whatever it has not; `put` may decline; `drop` forgets. None of them raises."""

    def get(self, key: str) -> Rendition | None: ...

    def put(self, key: str, rendition: Rendition) -> bool: ...

    def drop(self, key: str) -> None: ...


class Tier(Protocol):
    """A cache behind a wait, which every tier bounds by itself. None of them raises but what cancels their caller.

    A tier neither reads the clock nor the generations of what it gives: its owner does. Bytes that are not what was
    put are
    a miss, are removed, and are counted.
    """

    async def get(self, key: str) -> Rendition | None: ...

    async def put(self, key: str, rendition: Rendition) -> bool: ...

    async def drop(self, key: str) -> None: ...
