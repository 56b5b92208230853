"""SIGHUP: each part that can be read again is read again while the server runs."""

import asyncio
from collections.abc import Awaitable, Callable

from structlog.typing import FilteringBoundLogger

from imgserver.errors import ImgserverError

# Reads off the event loop, checks everything, and only then replaces the values in force, without an await in between.
# Raises ImgserverError for a refused part; its old values then stay in force.
Reload = Callable[[], Awaitable[None]]

# A file system that hangs must not keep the other parts from being reloaded.
PART_SECONDS = 10.0


class Reloader:
    """Reloads its parts one after the other. A part that is refused does not stop the next one."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger
        self._parts: dict[str, Reload] = {}
        self._requested = asyncio.Event()

    def add(self, name: str, part: Reload) -> None:
        """`name` identifies the part in the log."""
        self._parts[name] = part

    def request(self) -> None:
        """Requests a reload and returns immediately. All requests during one reload lead to one further reload."""
        self._requested.set()

    async def run_forever(self) -> None:
        """Reloads after each request, until it is cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            await self.reload()

    async def reload(self) -> bool:
        """Reloads every part once. Returns False when a part was refused."""
        succeeded = [await self._reload(name, part) for name, part in self._parts.items()]
        self._logger.info("server.reloaded", parts=len(succeeded), refused=succeeded.count(False))
        return all(succeeded)

    async def _reload(self, name: str, part: Reload) -> bool:
        try:
            async with asyncio.timeout(PART_SECONDS):
                await part()
        except ImgserverError as error:
            self._logger.error("reload.refused", part=name, detail=error.detail)
        except Exception as error:
            self._logger.error("reload.failed", part=name, exc_info=error)
        else:
            return True
        return False
