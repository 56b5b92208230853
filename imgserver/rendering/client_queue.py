"""The tickets of one client in the render queue: what waits, what runs, and what they are estimated to cost."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from imgserver.rendering.cost import Cost, ServiceRate


class Criticality(IntEnum):
    """The class of a request. The lowest number is served first and shed last.

    URGENT is near the viewport, LOW is far from it or a prefetch. REFRESH revalidates a rendition that was served
    stale. BATCH is work that no visitor waits for, such as uploads.
    """

    URGENT = 0
    NORMAL = 1
    LOW = 2
    REFRESH = 3
    BATCH = 4


# The classes in the order of service. Clients share the workers fairly within a rank; a rank precedes the next one.
RANKS = (
    (Criticality.URGENT, Criticality.NORMAL, Criticality.LOW),
    (Criticality.REFRESH,),
    (Criticality.BATCH,),
)
RANK_OF = {kind: rank for rank in RANKS for kind in rank}


@dataclass(frozen=True, slots=True)
class Requester:
    """Who wants a render: the client whose share of the workers it counts against, and the class of the request."""

    client: str = ""
    criticality: Criticality = Criticality.NORMAL


class QueueEntry(Protocol):
    """What the queue reads and writes of a ticket.

    `client`: whose share the entry counts against. `cost` is set before `enqueue`; `started`, in seconds of a monotonic
    clock, before `start`. The queue sets `number`, by which the tickets of one class are ordered.
    """

    client: str
    criticality: Criticality
    cost: Cost | None
    number: int
    started: float | None


T = TypeVar("T", bound=QueueEntry)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one client holds: its tickets, those of them that fetch, and the estimated cost of the others."""

    count: int = 0
    fetching: int = 0
    cost_seconds: float = 0.0

    def seconds(self, rate: ServiceRate) -> float:
        """For how long these tickets hold workers."""
        return rate.seconds(self.cost_seconds) + self.fetching * rate.typical_seconds()


class Sum:
    """A number of tickets, and the sum of their costs."""

    __slots__ = ("cost_seconds", "count")

    def __init__(self) -> None:
        self.count = 0
        self.cost_seconds = 0.0

    def add(self, ticket: QueueEntry, sign: int) -> None:
        self.count += sign
        self.cost_seconds += sign * cost_seconds_of(ticket)
        if not self.count:
            self.cost_seconds = 0.0  # removes the rounding error


class ClientQueue(Generic[T]):
    """The tickets of one client."""

    def __init__(self, virtual_seconds: float) -> None:
        self.virtual_seconds = virtual_seconds
        self.running = Sum()
        self.fetching = [0] * len(Criticality)
        self.waiting = tuple(ClassQueue[T]() for _ in Criticality)

    @property
    def is_waiting(self) -> bool:
        return any(tickets.count for tickets in self.waiting)

    def is_waiting_in(self, rank: Iterable[Criticality]) -> bool:
        return any(self.waiting[kind].count for kind in rank)

    @property
    def is_idle(self) -> bool:
        return not (self.running.count or any(self.fetching) or self.is_waiting)

    def holding(self) -> Holding:
        fetching = sum(self.fetching)
        count = self.running.count + fetching + sum(tickets.count for tickets in self.waiting)
        return Holding(count, fetching, self.running.cost_seconds + sum(it.cost_seconds for it in self.waiting))

    def ahead(self, criticality: Criticality, rate: ServiceRate, *, fetching: bool = True) -> tuple[int, float]:
        """The tickets that are ahead of a new ticket of this client, without the running ones."""
        return self._sum(range(criticality + 1), rate, fetching=fetching)

    def before(self, criticality: Criticality, rate: ServiceRate) -> tuple[tuple[int, float], tuple[int, float]]:
        """The tickets that precede those of another client, and those that share the workers with them."""
        rank = RANK_OF[criticality]
        return self._sum(range(rank[0]), rate), self._sum(rank, rate)

    def _sum(self, kinds: Iterable[int], rate: ServiceRate, *, fetching: bool = True) -> tuple[int, float]:
        count, cost_seconds, without_cost = 0, 0.0, 0
        for kind in kinds:
            count += self.waiting[kind].count
            cost_seconds += self.waiting[kind].cost_seconds
            without_cost += self.fetching[kind] if fetching else 0
        return count + without_cost, rate.seconds(cost_seconds) + without_cost * rate.typical_seconds()


class ClassQueue(Sum, Generic[T]):
    """The waiting tickets of one class of one client, in buckets by decoded bytes."""

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        super().__init__()
        self.buckets: dict[int, OrderedDict[T, None]] = {}

    def append(self, ticket: T) -> None:
        self.buckets.setdefault(_bucket(ticket), OrderedDict())[ticket] = None
        self.add(ticket, 1)

    def prepend(self, ticket: T) -> None:
        self.append(ticket)
        self.buckets[_bucket(ticket)].move_to_end(ticket, last=False)

    def remove(self, ticket: T) -> None:
        bucket = self.buckets[_bucket(ticket)]
        del bucket[ticket]
        if not bucket:
            del self.buckets[_bucket(ticket)]
        self.add(ticket, -1)

    def heads(self) -> Iterator[T]:
        return (next(iter(bucket)) for bucket in self.buckets.values())

    def tails(self) -> Iterator[T]:
        return (next(reversed(bucket)) for bucket in self.buckets.values())

    def next_that_fits(self, free_bytes: int, *, newest: bool) -> tuple[T | None, list[T]]:
        """The oldest or the newest ticket that fits, and the tickets before it that do not."""
        in_turn = list(self.tails() if newest else self.heads())
        if len(in_turn) > 1:
            in_turn.sort(key=number_of, reverse=newest)
        too_large = list(itertools.takewhile(lambda ticket: decoded_bytes_of(ticket) > free_bytes, in_turn))
        return (in_turn[len(too_large)] if len(too_large) < len(in_turn) else None), too_large


def cost_seconds_of(ticket: QueueEntry) -> float:
    return ticket.cost.seconds if ticket.cost else 0.0


def decoded_bytes_of(ticket: QueueEntry) -> int:
    return ticket.cost.decoded_bytes if ticket.cost else 0


def number_of(ticket: QueueEntry) -> int:
    return ticket.number


def _bucket(ticket: QueueEntry) -> int:
    return decoded_bytes_of(ticket).bit_length()
