"""What is read again while the server serves: on SIGHUP, each part in its turn, and a part that is refused stays.

A part is an async function without arguments: it reads off the event loop, checks everything, and only then replaces
what is in force, without awaiting in between. It raises an ImgserverError for what it refuses.
"""

import asyncio
from collections.abc import Awaitable, Callable

from structlog.typing import FilteringBoundLogger

from imgserver.errors import ImgserverError

Reload = Callable[[], Awaitable[None]]

# A file system that hangs must not keep the other parts from being read.
PART_SECONDS = 10.0


class Reloads:
    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger
        self._parts: dict[str, Reload] = {}
        self._asked = asyncio.Event()

    def add(self, name: str, part: Reload) -> None:
        self._parts[name] = part

    def ask(self) -> None:
        """For the signal: returns at once. However often it comes during a run, one more run follows."""
        self._asked.set()

    async def work(self) -> None:
        """Reloads whenever it is asked to; for ever."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.run()

    async def run(self) -> bool:
        """Every part once. False: some part was refused."""
        done = [await self._reload(name, part) for name, part in self._parts.items()]
        self._logger.info("server.reloaded", parts=len(done), refused=done.count(False))
        return all(done)

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
