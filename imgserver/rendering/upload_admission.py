"""Upload admission: a bounded number of uploads run, a bounded number wait, and their temporary files have a bound.

An upload is admitted before its body is read, so that a refused client has sent nothing. This is the second of the four
queues (see `rendering/__init__.py`). An upload that runs then waits in the render queue like any other request.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, doc

from imgserver.errors import Overloaded, Unavailable
from imgserver.runtime.resources import MIB
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
    """Uploads that wait for their turn."""
    limit: int
    """Uploads that may wait."""
    oldest_wait_seconds: float
    """Age of the oldest waiting upload; 0 if no upload waits."""
    space_bytes: int
    """Bytes of the temporary files now."""


class UploadAdmission:
    """State and decisions only; use from one event loop."""

    def __init__(self, settings: UploadSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._effective = settings
        self._clock = clock
        self._slots = asyncio.Semaphore(settings.max_concurrent)
        self._running = 0
        self._waiting: dict[object, float] = {}
        self._temp_bytes = 0

    def __repr__(self) -> str:
        running = f"running {self._running}/{self._settings.max_concurrent}"
        waiting = f"waiting {len(self._waiting)}/{self._settings.max_waiting}"
        return f"<UploadAdmission {running}, {waiting}, {self._temp_bytes} bytes>"

    @property
    def effective_settings(self) -> UploadSettings:
        """The settings with the limits for an upload that begins now."""
        return self._effective

    def apply(self, limits: UploadLimits) -> None:
        """Applies the policy's limits from the next upload on. Where the policy sets none, the settings count."""
        body_bytes, parts = limits.body_bytes, limits.parts
        self._effective = replace(
            self._settings,
            max_body_bytes=self._settings.max_body_bytes if body_bytes is None else body_bytes,
            max_parts=self._settings.max_parts if parts is None else parts,
        )

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Holds a slot inside the block; yields the seconds waited for it. Raises Overloaded (full, deadline)."""
        begun = self._clock()
        await self._wait_for_slot()
        self._running += 1
        try:
            yield self._clock() - begun
        finally:
            self._running -= 1
            self._slots.release()

    async def _wait_for_slot(self) -> None:
        if self._slots.locked() and len(self._waiting) >= self._settings.max_waiting:
            raise Overloaded("Too many uploads are waiting", reason="full", retry_after=RETRY_AFTER_SECONDS)
        waiter = object()
        self._waiting[waiter] = self._clock()
        try:
            async with asyncio.timeout(self._settings.max_wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            detail = "No other upload ended in time"
            raise Overloaded(detail, reason="deadline", retry_after=RETRY_AFTER_SECONDS) from None
        finally:
            del self._waiting[waiter]

    def claim_bytes(self, count: int) -> None:
        """Reserves bytes for a temporary file. Raises Unavailable (space) if the files of all uploads are too large."""
        if self._temp_bytes + count > self._settings.max_temp_bytes:
            detail = "The temporary files of all uploads together are too large"
            raise Unavailable(detail, reason="space", retry_after=RETRY_AFTER_SECONDS)
        self._temp_bytes += count

    def release_bytes(self, count: int) -> None:
        self._temp_bytes -= count

    def statistics(self) -> UploadStatistics:
        now = self._clock()
        return UploadStatistics(
            running=self._running,
            waiting=len(self._waiting),
            limit=self._settings.max_waiting,
            oldest_wait_seconds=max((now - begun for begun in self._waiting.values()), default=0.0),
            space_bytes=self._temp_bytes,
        )
