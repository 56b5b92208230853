"""The render queue: tickets that fetch their original, wait for a worker, or run, with sums per class.

The event loop uses the queue for each admission, dispatch and refusal, most of all while thousands of tickets wait. So
no decision walks over the waiting tickets. Each class has one first-in-first-out bucket per power of two of decoded
bytes: some ten buckets in practice, never more than forty. The next ticket that fits into the free memory is the head
of a bucket, and the newest ticket is the tail of a bucket. Only the head of a bucket is compared with the free memory;
a later ticket of the same bucket needs more than half as much.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from imgserver.rendering.cost import Cost, ServiceRate


class Criticality(IntEnum):
    """The class of a request. The lowest number is served first and shed last.

    URGENT is near the viewport. REFRESH revalidates a rendition that was served stale. BATCH is work that no visitor
    waits for, such as uploads.
    """

    URGENT = 0
    NORMAL = 1
    LOW = 2
    REFRESH = 3
    BATCH = 4


class QueueEntry(Protocol):
    """What the queue reads and writes of a ticket.

    `cost` is set before `enqueue`; `started`, in seconds of a monotonic clock, before `start`. The queue sets
    `number`, by which the tickets of one class are ordered.
    """

    criticality: Criticality
    cost: Cost | None
    number: int
    started: float | None


T = TypeVar("T", bound=QueueEntry)


class RenderQueue(Generic[T]):
    """Each ticket is in one of three places: fetching its original, waiting for a worker, or running in one."""

    def __init__(self) -> None:
        self.fetching: OrderedDict[T, None] = OrderedDict()
        self.running: dict[T, None] = {}
        self.short_of_memory: dict[T, None] = {}
        """Waiting tickets that were next in turn and did not fit into the free memory."""
        self.waiting = 0
        """How many tickets wait for a worker."""
        self.decoded_bytes = 0
        """Estimated bytes of pixels of the running tickets."""
        self._waiting = tuple(_ClassQueue[T]() for _ in Criticality)
        self._fetching = [0] * len(Criticality)
        self._numbers = itertools.count(1)
        self._front_numbers = itertools.count(-1, -1)

    def __len__(self) -> int:
        return len(self.fetching) + self.waiting + len(self.running)

    def __contains__(self, ticket: T) -> bool:
        return ticket in self.fetching or ticket in self.running or self.is_waiting(ticket)

    def is_waiting(self, ticket: T) -> bool:
        return ticket in self._waiting[ticket.criticality]

    def counts(self) -> Mapping[Criticality, int]:
        """How many tickets of each class are fetching or waiting."""
        return MappingProxyType({kind: self._fetching[kind] + self._waiting[kind].count for kind in Criticality})

    def waiting_tickets(self) -> list[T]:
        """All tickets that wait for a worker, by class and then in their order. Walks over all of them."""
        return [ticket for tickets in self._waiting for ticket in sorted(tickets, key=_number)]

    # Transitions

    def enter(self, ticket: T) -> None:
        """Adds a ticket whose original is being fetched."""
        self.fetching[ticket] = None
        self._fetching[ticket.criticality] += 1

    def enqueue(self, ticket: T) -> None:
        """Moves a ticket from fetching to the end of its class. Does nothing for a ticket that has left."""
        if ticket in self.fetching:
            self._stop_fetching(ticket)
            ticket.number = next(self._numbers)
            self._waiting[ticket.criticality].append(ticket)
            self.waiting += 1

    def requeue(self, ticket: T) -> None:
        """Adds a ticket that has left after its worker died, to the front of its class."""
        ticket.number = next(self._front_numbers)
        self._waiting[ticket.criticality].prepend(ticket)
        self.waiting += 1

    def start(self, ticket: T) -> None:
        """Moves a ticket from waiting to running."""
        self._stop_waiting(ticket)
        self.running[ticket] = None
        self.decoded_bytes += _decoded_bytes(ticket)

    def leave(self, ticket: T) -> bool:
        """Removes a ticket from wherever it is; False if it has left already."""
        if ticket in self.running:
            del self.running[ticket]
            self.decoded_bytes -= _decoded_bytes(ticket)
        elif ticket in self.fetching:
            self._stop_fetching(ticket)
        elif self.is_waiting(ticket):
            self._stop_waiting(ticket)
        else:
            return False
        return True

    # Decisions

    def first_that_fits(self, criticality: Criticality, free_bytes: int) -> T | None:
        """The first ticket of this class that needs no more than the free bytes; None if no ticket fits.

        Notes the bucket heads that it skips as short of memory.
        """
        first, skipped = self._waiting[criticality].first_that_fits(free_bytes)
        for ticket in skipped:
            self.short_of_memory[ticket] = None
        return first

    def newest_below(self, criticality: Criticality) -> T | None:
        """The newest waiting ticket of the lowest class, if that class is lower than this one."""
        for kind in range(len(Criticality) - 1, criticality, -1):
            if self._waiting[kind].count:
                return max((next(reversed(bucket)) for bucket in self._waiting[kind].buckets.values()), key=_number)
        return None

    def heads(self) -> Iterator[T]:
        """The first ticket of each bucket. The oldest waiting ticket is among them, or right after a requeued one."""
        return (next(iter(bucket)) for tickets in self._waiting for bucket in tickets.buckets.values())

    # Predictions

    def ahead(self, criticality: Criticality, rate: ServiceRate, now: float) -> tuple[int, float]:
        """How many tickets are ahead of a new ticket of this class, and for how many seconds they will hold workers,
        summed over the workers."""
        count, seconds = self._ahead_in_queue(criticality, rate, now)
        fetching = sum(self._fetching[: criticality + 1])
        return count + fetching, seconds + fetching * rate.typical_seconds()

    def ahead_of_newest(self, ticket: T, rate: ServiceRate, now: float) -> tuple[int, float]:
        """The same for the ticket that was enqueued last. Fetching tickets are not ahead of it."""
        count, seconds = self._ahead_in_queue(ticket.criticality, rate, now)
        return count - 1, seconds - remaining_seconds(ticket, rate, now)

    def _ahead_in_queue(self, criticality: Criticality, rate: ServiceRate, now: float) -> tuple[int, float]:
        count, cost_seconds = len(self.running), 0.0
        for tickets in self._waiting[: criticality + 1]:
            count += tickets.count
            cost_seconds += tickets.cost_seconds
        running = sum(remaining_seconds(ticket, rate, now) for ticket in self.running)
        return count, rate.seconds(cost_seconds) + running

    def _stop_waiting(self, ticket: T) -> None:
        self._waiting[ticket.criticality].remove(ticket)
        self.waiting -= 1
        self.short_of_memory.pop(ticket, None)

    def _stop_fetching(self, ticket: T) -> None:
        del self.fetching[ticket]
        self._fetching[ticket.criticality] -= 1


class _ClassQueue(Generic[T]):
    """The waiting tickets of one class, in buckets by decoded bytes."""

    def __init__(self) -> None:
        self.count = 0
        self.cost_seconds = 0.0
        # A linked list, because entries leave from both ends and from the middle.
        self.buckets: dict[int, OrderedDict[T, None]] = {}

    def __contains__(self, ticket: T) -> bool:
        return ticket in self.buckets.get(_bucket(ticket), ())

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(self.buckets.values())

    def append(self, ticket: T) -> None:
        self.buckets.setdefault(_bucket(ticket), OrderedDict())[ticket] = None
        self._add(ticket, 1)

    def prepend(self, ticket: T) -> None:
        self.append(ticket)
        self.buckets[_bucket(ticket)].move_to_end(ticket, last=False)

    def remove(self, ticket: T) -> None:
        bucket = self.buckets[_bucket(ticket)]
        del bucket[ticket]
        if not bucket:
            del self.buckets[_bucket(ticket)]
        self._add(ticket, -1)

    def first_that_fits(self, free_bytes: int) -> tuple[T | None, list[T]]:
        """The head with the lowest number that fits, and the heads before it that do not."""
        first: T | None = None
        too_large: list[T] = []
        for bucket in self.buckets.values():
            head = next(iter(bucket))
            if _decoded_bytes(head) > free_bytes:
                too_large.append(head)
            elif first is None or head.number < first.number:
                first = head
        return first, [head for head in too_large if first is None or head.number < first.number]

    def _add(self, ticket: T, sign: int) -> None:
        self.count += sign
        self.cost_seconds += sign * (ticket.cost.seconds if ticket.cost else 0.0)
        if not self.count:
            self.cost_seconds = 0.0  # removes the rounding error


def remaining_seconds(ticket: QueueEntry, rate: ServiceRate, now: float) -> float:
    """Seconds for which the ticket will hold its worker from now on."""
    seconds = rate.typical_seconds() if ticket.cost is None else rate.seconds(ticket.cost.seconds)
    return seconds if ticket.started is None else max(0.0, seconds - (now - ticket.started))


def _decoded_bytes(ticket: QueueEntry) -> int:
    return ticket.cost.decoded_bytes if ticket.cost else 0


def _bucket(ticket: QueueEntry) -> int:
    return _decoded_bytes(ticket).bit_length()


def _number(ticket: QueueEntry) -> int:
    return ticket.number
