"""The tickets of the waiting room and its slots, with sums that are kept as they change.

Most refusals are made when most tickets wait: one must not cost a walk over all of them.
"""

from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from imgserver.rendering.cost import Cost, Pace


class Criticality(IntEnum):
    """Who is served first and shed last. URGENT is near the viewport; REFRESH renews behind a stale answer; BATCH is
    work that nobody looks at yet, such as uploads."""

    URGENT = 0
    NORMAL = 1
    LOW = 2
    REFRESH = 3
    BATCH = 4


class Placed(Protocol):
    """What the sums are made of. `cost` is set before `ask`, `started` (monotonic seconds) before `start`."""

    criticality: Criticality
    cost: Cost | None
    started: float | None


T = TypeVar("T", bound=Placed)


class Backlog(Generic[T]):
    """Each ticket is in one of three places: still fetching its source, queued for a slot, or running in one."""

    def __init__(self) -> None:
        self.fetching: dict[T, None] = {}
        self.queued: dict[T, None] = {}
        self.running: dict[T, None] = {}
        # Of the queued, by class.
        self._counts = [0] * len(Criticality)
        self._seconds = [0.0] * len(Criticality)
        self._fetching = [0] * len(Criticality)

    def __len__(self) -> int:
        return len(self.fetching) + len(self.queued) + len(self.running)

    def __contains__(self, ticket: T) -> bool:
        return ticket in self.queued or ticket in self.running or ticket in self.fetching

    def enter(self, ticket: T) -> None:
        self.fetching[ticket] = None
        self._fetching[ticket.criticality] += 1

    def ask(self, ticket: T) -> None:
        """Its source is there and its cost is known: it wants a slot. Nothing, for one that has left."""
        if ticket in self.fetching:
            self._drop_fetching(ticket)
            self.queued[ticket] = None
            self._count(ticket, 1)

    def start(self, ticket: T) -> None:
        del self.queued[ticket]
        self._count(ticket, -1)
        self.running[ticket] = None

    def leave(self, ticket: T) -> bool:
        """From wherever it is. False: it had left already."""
        if ticket in self.running:
            del self.running[ticket]
        elif ticket in self.queued:
            del self.queued[ticket]
            self._count(ticket, -1)
        elif ticket in self.fetching:
            self._drop_fetching(ticket)
        else:
            return False
        return True

    def ahead(self, criticality: Criticality, pace: Pace, now: float) -> tuple[int, float]:
        """How many tickets a newcomer of this class finds before it, and for how long they will hold slots, in
        seconds of one slot."""
        classes = range(criticality + 1)
        fetching = sum(self._fetching[kind] for kind in classes)
        queued = sum(self._counts[kind] for kind in classes)
        seconds = pace.seconds(Cost(sum(self._seconds[kind] for kind in classes)))
        running = sum(left_to_do(ticket, pace, now) for ticket in self.running)
        return fetching + queued + len(self.running), fetching * pace.typical_seconds() + seconds + running

    def _drop_fetching(self, ticket: T) -> None:
        del self.fetching[ticket]
        self._fetching[ticket.criticality] -= 1

    def _count(self, ticket: T, by: int) -> None:
        kind = ticket.criticality
        self._counts[kind] += by
        self._seconds[kind] += by * (ticket.cost.seconds if ticket.cost else 0.0)
        if not self._counts[kind]:
            self._seconds[kind] = 0.0  # what rounding has left over


def left_to_do(ticket: Placed, pace: Pace, now: float) -> float:
    """Seconds for which the ticket will hold its slot from now on."""
    seconds = pace.typical_seconds() if ticket.cost is None else pace.seconds(ticket.cost)
    return seconds if ticket.started is None else max(0.0, seconds - (now - ticket.started))
