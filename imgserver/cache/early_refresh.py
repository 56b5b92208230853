"""When a cached rendition is refreshed: once it is stale, or at random shortly before (XFetch)."""

import random
import time

from imgserver.headers import caching
from imgserver.plan.rendition import Rendition

# Keys due for a refresh that no request has taken yet.
MAX_DUE = 1024


class EarlyRefreshes:
    """Decides once per request whether it refreshes its rendition, although several functions look the rendition up."""

    def __init__(self) -> None:
        self._due: set[str] = set()

    def decide(self, key: str, rendition: Rendition) -> bool:
        """Whether the request that looks this rendition up refreshes it. The next `take` of the key tells the same."""
        if key in self._due:
            return True
        if not is_due(rendition):
            return False
        if len(self._due) >= MAX_DUE:
            self._due.clear()
        self._due.add(key)
        return True

    def take(self, key: str) -> bool:
        """Whether `decide` has decided for a refresh; forgets the decision."""
        was_due = key in self._due
        self._due.discard(key)
        return was_due


def is_stale(rendition: Rendition) -> bool:
    return rendition.fresh_until is not None and rendition.fresh_until <= time.time()


def is_due(rendition: Rendition) -> bool:
    """Whether the rendition is stale, or so close to it that this request refreshes it early (XFetch)."""
    now, end = time.time(), rendition.fresh_until
    # No random draw refreshes earlier than this; most hits need no draw.
    if end is None or now + caching.EARLIEST_RENDERS * rendition.render_seconds < end:
        return False
    draw = 1.0 - random.random()  # noqa: S311
    return caching.is_early(now=now, fresh_until=end, render_seconds=rendition.render_seconds, draw=draw)
