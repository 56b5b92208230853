"""The open connections of the server, and how they end when it drains."""

import asyncio
import contextlib
from typing import Protocol

from imgserver.settings.schema import ServerSettings


class OpenConnection(Protocol):
    """What `OpenConnections` needs of a connection."""

    @property
    def is_working(self) -> bool:
        """Whether a request is in progress, or a response is not yet written."""

    def drain(self) -> None:
        """Ends after the request in progress; immediately if it is idle between two requests."""


class OpenConnections:
    """The open connections, and counts of malformed requests and of slow clients."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.malformed = 0
        self.overdue = {"header": 0, "write": 0}
        self._open: set[OpenConnection] = set()
        self._lost = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: OpenConnection) -> bool:
        """Returns whether there is a place for the connection. It is counted in any case, until `remove`."""
        self._open.add(connection)
        return len(self._open) <= self.settings.max_connections

    def remove(self, connection: OpenConnection) -> None:
        self._open.discard(connection)
        self._lost.set()

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
