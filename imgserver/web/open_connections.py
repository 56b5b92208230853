"""The open connections of the server: their limit, which one is closed for a new one, and how they end.

Rules:
  1. When the limit is reached, a new connection takes the place of an idle one: of the client that has most idle
     connections, the one that has been idle for longest. A connection is idle while no request of it is in progress;
     one that never sent a byte, or that is sending a header, is idle, too.
  2. When no connection is idle, the new one is closed.
  3. When the server drains, idle connections are closed, and the others end after their response.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from imgserver.settings.schema import ServerSettings

WARNING_SECONDS = 60.0
# The share of the free descriptors that connections may take. Originals, workers, caches and origins need the others.
DESCRIPTOR_SHARE = 0.75


class OpenConnection(Protocol):
    """What `OpenConnections` needs of a connection."""

    client: str
    """The client's network, as `security.networks.client_of` returns it."""
    idle_since: float
    """When the last response ended or, before the first request, when the connection was accepted."""

    @property
    def is_working(self) -> bool:
        """Whether a request is in progress, or a response is not yet written."""

    def drain(self) -> None:
        """Ends after the request in progress; immediately if it is idle between two requests."""

    def evict(self) -> None:
        """Ends immediately. It is idle."""


class OpenConnections:
    """The open connections, and counts of malformed requests, of slow clients and of connections without a place.

    `warn` receives the number of evicted and of refused connections since its last call, at most once a minute.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        warn: Callable[[int, int], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.limit = settings.max_connections
        self.malformed = 0
        self.overdue = {"header": 0, "write": 0}
        self.shed = {"idle": 0, "new": 0}
        self._warn = warn
        self._clock = clock
        self._warned_at = -WARNING_SECONDS
        self._reported = dict(self.shed)
        self._open: set[OpenConnection] = set()
        # By client, in the order in which they became idle, with that moment.
        self._idle: dict[str, dict[OpenConnection, float]] = {}
        self._lost = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        idle = sum(map(len, self._idle.values()))
        return f"<OpenConnections {len(self._open)}/{self.limit}, {idle} idle, shed {self.shed}>"

    def limit_to_descriptors(self, free: int) -> None:
        """Lowers the limit if the process may not open so many sockets. `free`: descriptors before the first one."""
        self.limit = max(1, min(self.limit, int(free * DESCRIPTOR_SHARE)))

    def add(self, connection: OpenConnection) -> bool:
        """Adds a connection, which is idle. False: there is no place for it; it is counted until `remove`."""
        has_place = len(self._open) < self.limit or self._evict()
        self._open.add(connection)
        if has_place:
            self.note_idle(connection)
        else:
            self._count_shed("new")
        return has_place

    def remove(self, connection: OpenConnection) -> None:
        """Does nothing for a connection that was removed before."""
        self.note_busy(connection)
        self._open.discard(connection)
        self._lost.set()

    def note_idle(self, connection: OpenConnection) -> None:
        """The connection waits for a request."""
        if connection in self._open:
            self._idle.setdefault(connection.client, {})[connection] = connection.idle_since

    def note_busy(self, connection: OpenConnection) -> None:
        """A request of the connection is in progress."""
        idle = self._idle.get(connection.client)
        if idle is not None and idle.pop(connection, None) is not None and not idle:
            del self._idle[connection.client]

    def _evict(self) -> bool:
        """Closes the longest idle connection of the client that has most of them. False: no connection is idle."""
        idle = max(self._idle.values(), key=len, default=None)
        if idle is None:
            return False
        connection = _longest_idle(idle)
        self.remove(connection)
        connection.evict()
        self._count_shed("idle")
        return True

    def _count_shed(self, what: str) -> None:
        self.shed[what] += 1
        now = self._clock()
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            self._warn(*(self.shed[name] - self._reported[name] for name in ("idle", "new")))
            self._reported = dict(self.shed)

    async def drain(self, seconds: float) -> int:
        """Waits, at most for `seconds`, until every request in progress is answered and every response is written.
        Returns the number of requests that are still in progress."""
        for connection in list(self._open):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._count_working():
                    self._lost.clear()
                    await self._lost.wait()
        return self._count_working()

    def _count_working(self) -> int:
        return sum(connection.is_working for connection in self._open)


def _longest_idle(idle: dict[OpenConnection, float]) -> OpenConnection:
    """The first connection whose place in the order is right. The others have been active since they were entered: the
    fast path answers a request without an entry here."""
    while True:
        connection, since = next(iter(idle.items()))
        if connection.idle_since <= since:
            return connection
        del idle[connection]
        idle[connection] = connection.idle_since
