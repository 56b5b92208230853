"""Who may upload now: few at once, few more waiting for a short while, and a bound on what their files take.

A place is taken before the body is read, so that those who are refused have sent nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, doc

from imgserver.engine.job import MIB
from imgserver.errors import Overloaded, Unavailable
from imgserver.security.policy import UploadLimits

RETRY_AFTER_SECONDS = 5


Access = Literal["auto", "key", "open", "off"]


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """Who may upload, and the bounds of uploads."""

    access: Annotated[
        Access, doc("who may upload; auto: with a key once any is configured, until then only this machine")
    ] = "auto"
    max_concurrent: Annotated[int, Ge(1), Le(256), doc("uploads received or rendered at the same time")] = 2
    max_waiting: Annotated[int, Ge(0), Le(10_000), doc("uploads that may wait for their turn")] = 8
    max_wait_seconds: Annotated[float, Gt(0), Le(60), doc("longest time that an upload waits for its turn")] = 5.0
    max_body_bytes: Annotated[int, Ge(1024), doc("size of a request's body")] = 25 * MIB
    max_parts: Annotated[int, Ge(1), Le(1000), doc("parts of a multipart form")] = 10
    idle_timeout_seconds: Annotated[float, Gt(0), Le(600), doc("longest pause within a body")] = 15.0
    body_timeout_seconds: Annotated[float, Gt(0), Le(3600), doc("longest time for a whole body")] = 60.0
    max_temp_bytes: Annotated[int, Ge(MIB), doc("size of the temporary files of all uploads together")] = 512 * MIB
    temp_path: Annotated[
        Path, doc("folder for these files, which have no names; empty: the system's folder for temporary files")
    ] = Path()
    store: Annotated[str, doc("source that store= writes results to; empty: results are only sent back")] = ""
    allow_origin: Annotated[str, doc("origin of pages whose scripts may upload (CORS), or *; empty: none")] = ""


@dataclass(frozen=True, slots=True)
class UploadStatistics:
    running: int
    """Uploads being received or rendered."""
    waiting: int
    """Uploads whose place is not free yet."""
    limit: int
    """Uploads that may wait."""
    oldest_wait_seconds: float
    """Age of the one that waits longest; 0 when none does."""
    space_bytes: int
    """Bytes of their files now."""


class Uploads:
    """Places and space. State and decisions only; use from one event loop."""

    def __init__(self, settings: UploadSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._bounded = settings
        self._clock = clock
        self._places = asyncio.Semaphore(settings.max_concurrent)
        self._running = 0
        self._waiting: dict[object, float] = {}
        self._space = 0

    def __repr__(self) -> str:
        told = f"running {self._running}/{self._settings.max_concurrent}, waiting {len(self._waiting)}"
        return f"<Uploads {told}/{self._settings.max_waiting}, {self._space} bytes>"

    @property
    def bounded(self) -> UploadSettings:
        """The settings with the limits that hold for an upload that begins now."""
        return self._bounded

    def limit(self, limits: UploadLimits) -> None:
        """The policy's limits, from the next upload on; where it says nothing, the settings' own."""
        body_bytes, parts = limits.body_bytes, limits.parts
        self._bounded = replace(
            self._settings,
            max_body_bytes=self._settings.max_body_bytes if body_bytes is None else body_bytes,
            max_parts=self._settings.max_parts if parts is None else parts,
        )

    @asynccontextmanager
    async def place(self) -> AsyncIterator[float]:
        """Holds a place inside the block; yields how long it waited for it. Raises Overloaded (full, deadline)."""
        begun = self._clock()
        await self._take()
        self._running += 1
        try:
            yield self._clock() - begun
        finally:
            self._running -= 1
            self._places.release()

    async def _take(self) -> None:
        if self._places.locked() and len(self._waiting) >= self._settings.max_waiting:
            raise Overloaded("Too many uploads are waiting", reason="full", retry_after=RETRY_AFTER_SECONDS)
        me = object()
        self._waiting[me] = self._clock()
        try:
            async with asyncio.timeout(self._settings.max_wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            detail = "No place for another upload came free in time"
            raise Overloaded(detail, reason="deadline", retry_after=RETRY_AFTER_SECONDS) from None
        finally:
            del self._waiting[me]

    def claim(self, count: int) -> None:
        """Space for so many more bytes of a file. Raises Unavailable (space)."""
        if self._space + count > self._settings.max_temp_bytes:
            detail = "There is no space for this upload now"
            raise Unavailable(detail, reason="space", retry_after=RETRY_AFTER_SECONDS)
        self._space += count

    def release(self, count: int) -> None:
        self._space -= count

    def statistics(self) -> UploadStatistics:
        now = self._clock()
        return UploadStatistics(
            running=self._running,
            waiting=len(self._waiting),
            limit=self._settings.max_waiting,
            oldest_wait_seconds=max((now - since for since in self._waiting.values()), default=0.0),
            space_bytes=self._space,
        )
