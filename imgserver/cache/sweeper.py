"""Sweeper: one at a time over one tier, behind those who ask. What is asked for meanwhile is gathered into the next."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

# Of more groups than this, everything is searched.
GROUPS_LIMIT = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """`incomplete` is why the tier was not searched completely: the sweep is still "running" and its count is not known
    yet, or it has "failed"; empty if it was."""

    removed: int = 0
    incomplete: Literal["", "running", "failed"] = ""


@dataclass(frozen=True, slots=True)
class _Round:
    done: "asyncio.Future[SweepResult]"
    groups: set[str] = field(default_factory=set)


class Sweeper:
    """`sweep(groups)` searches one tier for what was purged with these groups; without any, for all that can go.

    Carried out by `work`; who asks waits as long as it likes, and the sweep goes on without it.
    """

    def __init__(self, sweep: Callable[[frozenset[str]], Awaitable[SweepResult]]) -> None:
        self._sweep = sweep
        self._rounds: asyncio.Queue[_Round] = asyncio.Queue()
        self._next: _Round | None = None

    async def ask(self, groups: Iterable[str], *, seconds: float | None) -> SweepResult:
        """What a sweep found that began after this call; no groups: everything that can go."""
        done = self._joined(frozenset(groups))
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(done)
        except TimeoutError:
            return SweepResult(incomplete="running")

    async def work(self) -> None:
        """For ever. Who still waits when it is cancelled hears that the sweep failed."""
        try:
            while True:
                one = await self._rounds.get()
                self._next = None
                await self._carry_out(one)
        except asyncio.CancelledError:
            if self._next is not None:
                self._next.done.set_result(SweepResult(incomplete="failed"))
            raise

    async def _carry_out(self, one: _Round) -> None:
        found = SweepResult(incomplete="failed")
        try:
            found = await self._sweep(frozenset(one.groups))
        except Exception:
            log.exception("A sweep failed")
        finally:
            one.done.set_result(found)

    def _joined(self, groups: frozenset[str]) -> "asyncio.Future[SweepResult]":
        if self._next is None:
            self._next = _Round(asyncio.get_running_loop().create_future(), set(groups))
            self._rounds.put_nowait(self._next)
        elif self._next.groups:
            self._next.groups.update(groups)
            if not groups or len(self._next.groups) > GROUPS_LIMIT:
                self._next.groups.clear()
        return self._next.done
