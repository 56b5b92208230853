"""A ticket: the place of one request in the render queue, from admission until its render has ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol, Self

from imgserver.rendering.cost import Cost
from imgserver.rendering.queue import Criticality
from imgserver.rendering.worker_process import WorkerProcess


class Scheduler(Protocol):
    """What a ticket needs of `admission.Admission`."""

    async def turn(self, ticket: "Ticket", cost: Cost) -> WorkerProcess:
        """Returns the worker that the ticket now holds. Raises what `Ticket.slot` raises."""

    def end(self, ticket: "Ticket") -> None:
        """The render has ended, and its worker is free or dead."""

    def leave(self, ticket: "Ticket") -> None:
        """Frees the place of the ticket, if it still has one."""


class Ticket:
    """A place in the render queue. `with ticket:` frees it in any case; freeing it twice does no harm."""

    def __init__(
        self, scheduler: Scheduler, *, criticality: Criticality, client: str, entered: float, deadline: float
    ) -> None:
        self._scheduler = scheduler
        self.client = client
        """Whose share of the workers the render counts against."""
        self.criticality = criticality
        self.entered = entered
        self.deadline = deadline
        """When the rendition must be finished: absolute seconds of time.monotonic(), or of the admission's clock."""
        self.cost: Cost | None = None
        self.number = 0
        self.queued: float | None = None
        self.started: float | None = None
        self.turn: asyncio.Future[WorkerProcess] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scheduler.leave(self)

    @property
    def waited_seconds(self) -> float:
        """From joining the queue until a worker was free; 0 before that."""
        return 0.0 if self.started is None or self.queued is None else self.started - self.queued

    @contextlib.asynccontextmanager
    async def slot(self, cost: Cost) -> AsyncIterator[WorkerProcess]:
        """Waits for a free worker, at most until the deadline, and holds it inside the block.

        The block must give the worker a job or give it back to the pool. May be entered again after the worker died:
        the ticket then waits at the front of its class.

        Raises Overloaded (predicted_wait; deadline or memory if it waited in vain; full or fair_share if evicted),
        DeadlineExceeded if the deadline passed before the ticket could join the queue, Unavailable from the pool.
        """
        worker = await self._scheduler.turn(self, cost)
        try:
            yield worker
        finally:
            self._scheduler.end(self)
