"""Caches: where renditions are kept.

A cache may lose anything at any time and must never give a wrong picture: whatever is odd about an entry makes it a
miss. Keys come from `identity.key`.
"""

from typing import Protocol

from imgserver.rendition import Rendition


class Cache(Protocol):
    """`get` answers None for whatever it has not; `put` may decline; `drop` forgets. None of them raises."""

    def get(self, key: str) -> Rendition | None: ...

    def put(self, key: str, rendition: Rendition) -> bool: ...

    def drop(self, key: str) -> None: ...
