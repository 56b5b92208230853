"""Upload admission: bounded numbers of uploads wait, are received, and are rendered; their files have a bound.

Rules:
  1. An upload takes a place before its body is read, so that a refused client has sent nothing. It holds the place
     while it is received and until it is its turn to be rendered: slow bodies take no turns.
  2. When all places are taken, a new upload takes that of the slowest body, if that is slower than the least rate. So
     clients that send a byte now and then deny uploads to nobody, however many they are.
  3. The turns bound the uploads that are rendered at the same time. This is the second of the four queues (see
     `rendering/__init__.py`): an upload whose turn it is waits in the render queue like any other request.
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
from imgserver.runtime.resources import KIB, MIB
from imgserver.security.policy import UploadLimits

RETRY_AFTER_SECONDS = 5
# How often a waiting upload looks for a body that is too slow.
DISPLACE_SECONDS = 0.25
# No body is judged before this age: its first packets may still be under way.
MIN_AGE_SECONDS = 1.0
# How long an upload that has been received waits for its turn.
MAX_TURN_WAIT_SECONDS = 60.0


Access = Literal["auto", "key", "open", "off"]


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """Who may upload, and the bounds of uploads."""

    access: Annotated[
        Access, doc("who may upload; auto: with a key once any is configured, until then only this machine")
    ] = "auto"
    max_concurrent: Annotated[int, Ge(1), Le(256), doc("uploads rendered at the same time")] = 2
    max_receiving: Annotated[
        int, Ge(1), Le(10_000), doc("uploads received, or waiting to be rendered, at the same time")
    ] = 16
    max_waiting: Annotated[int, Ge(0), Le(10_000), doc("uploads that may wait until they may send their bodies")] = 8
    max_wait_seconds: Annotated[float, Gt(0), Le(60), doc("longest time of that wait")] = 5.0
    max_body_bytes: Annotated[int, Ge(1024), doc("size of a request's body")] = 25 * MIB
    max_parts: Annotated[int, Ge(1), Le(1000), doc("parts of a multipart form")] = 10
    idle_timeout_seconds: Annotated[
        float, Gt(0), Le(600), doc("longest pause within a body, and the time over which its rate is measured")
    ] = 15.0
    min_rate_bytes: Annotated[
        int, Ge(0), doc("bytes per second that a body must bring, on average over idle_timeout_seconds")
    ] = 16 * KIB
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
    """Uploads being rendered."""
    receiving: int
    """Uploads being received, or waiting to be rendered."""
    waiting: int
    """Uploads that wait for a place."""
    limit: int
    """Uploads that may wait."""
    oldest_wait_seconds: float
    """Age of the oldest waiting upload; 0 if no upload waits."""
    space_bytes: int
    """Bytes of the temporary files now."""


class UploadPlace:
    """One of the places of uploads that are received. The reader of the body reports its progress here."""

    def __init__(self, *, waited_seconds: float) -> None:
        self.waited_seconds = waited_seconds
        self.on_displaced: Callable[[], None] | None = None
        """Called when another upload takes the place; None while no body is being received."""
        self.began = 0.0
        """When the present window of the rate began."""
        self.bytes = 0
        """Bytes of the body in this window."""

    def rate(self, now: float) -> float:
        """Bytes per second in this window."""
        return self.bytes / max(now - self.began, MIN_AGE_SECONDS)


class UploadAdmission:
    """State and decisions only; use from one event loop."""

    def __init__(self, settings: UploadSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._effective = settings
        self._clock = clock
        self._places: set[UploadPlace] = set()
        self._free_places = asyncio.Semaphore(settings.max_receiving)
        self._turns = asyncio.Semaphore(settings.max_concurrent)
        self._running = 0
        self._waiting: dict[object, float] = {}
        self._temp_bytes = 0

    def __repr__(self) -> str:
        running = f"running {self._running}/{self._settings.max_concurrent}"
        receiving = f"receiving {len(self._places)}/{self._settings.max_receiving}"
        waiting = f"waiting {len(self._waiting)}/{self._settings.max_waiting}"
        return f"<UploadAdmission {running}, {receiving}, {waiting}, {self._temp_bytes} bytes>"

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
    async def place(self) -> AsyncIterator[UploadPlace]:
        """Holds a place inside the block, or until the turn of the upload. Raises Overloaded (full, deadline)."""
        begun = self._clock()
        await self._wait_for_place()
        place = UploadPlace(waited_seconds=self._clock() - begun)
        self._places.add(place)
        try:
            yield place
        finally:
            self._leave(place)

    @asynccontextmanager
    async def turn(self, place: UploadPlace) -> AsyncIterator[None]:
        """For an upload that has been received: holds one of the turns inside the block, and frees the place when the
        turn has come. Raises Overloaded (deadline)."""
        try:
            async with asyncio.timeout(MAX_TURN_WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise _overloaded("No other upload was rendered in time", "deadline") from None
        self._leave(place)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._turns.release()

    async def _wait_for_place(self) -> None:
        if self._free_places.locked() and len(self._waiting) >= self._settings.max_waiting:
            raise _overloaded("Too many uploads are waiting", "full")
        waiter = object()
        self._waiting[waiter] = self._clock()
        try:
            async with asyncio.timeout(self._settings.max_wait_seconds):
                await self._acquire_place()
        except TimeoutError:
            raise _overloaded("No other upload ended in time", "deadline") from None
        finally:
            del self._waiting[waiter]

    async def _acquire_place(self) -> None:
        while True:
            if self._free_places.locked():
                self._displace_slowest()
            try:
                async with asyncio.timeout(DISPLACE_SECONDS):
                    await self._free_places.acquire()
                    return
            except TimeoutError:
                continue

    def _displace_slowest(self) -> None:
        """Ends the reception of the slowest body, if it is slower than the least rate."""
        now = self._clock()
        slow = [
            place
            for place in self._places
            if place.on_displaced is not None
            and now - place.began >= MIN_AGE_SECONDS
            and place.rate(now) < self._settings.min_rate_bytes
        ]
        if not slow:
            return
        slowest = min(slow, key=lambda place: place.rate(now))
        assert slowest.on_displaced is not None
        slowest.on_displaced()
        slowest.on_displaced = None

    def _leave(self, place: UploadPlace) -> None:
        """Does nothing for an upload that has left its place before."""
        if place in self._places:
            self._places.remove(place)
            self._free_places.release()

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
            receiving=len(self._places),
            waiting=len(self._waiting),
            limit=self._settings.max_waiting,
            oldest_wait_seconds=max((now - begun for begun in self._waiting.values()), default=0.0),
            space_bytes=self._temp_bytes,
        )


def _overloaded(detail: str, reason: str) -> Overloaded:
    return Overloaded(detail, reason=reason, retry_after=RETRY_AFTER_SECONDS)
