"""The render queue: tickets that fetch their original, wait for a worker, or run, with sums per client and class.

Clients share the workers fairly, by estimated cost (start-time fair queuing): each client has a virtual time, which
advances by the cost of each of its renders, and the next render is one of the client whose virtual time is the lowest.
The classes of visitors order the requests of one client. URGENT requests of one client never precede the requests of
another one, as in RFC 9218, where priorities order the responses of one connection: some browsers call every image
urgent, others none.

The event loop uses the queue for each admission, dispatch and refusal, most of all while thousands of tickets wait. So
no decision walks over the waiting tickets, only over the clients that have some. Each class of a client has one bucket
per power of two of decoded bytes: some ten buckets in practice, never more than forty. The oldest ticket that fits into
the free memory is the head of a bucket, and the newest one is the tail of a bucket. Only that end of a bucket is
compared with the free memory; another ticket of the same bucket needs more than half as much.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from imgserver.rendering.client_queue import (
    RANK_OF,
    RANKS,
    ClassQueue,
    ClientQueue,
    Holding,
    QueueEntry,
    Sum,
    cost_seconds_of,
    decoded_bytes_of,
    number_of,
)
from imgserver.rendering.client_queue import (
    Criticality as Criticality,
)
from imgserver.rendering.cost import ServiceRate

T = TypeVar("T", bound=QueueEntry)


class RenderQueue(Generic[T]):
    """Each ticket is in one of three places: fetching its original, waiting for a worker, or running in one."""

    def __init__(self) -> None:
        self.fetching: dict[T, None] = {}
        self.running: dict[T, None] = {}
        self.short_of_memory: dict[T, None] = {}
        """Waiting tickets that were next in turn and did not fit into the free memory."""
        self.decoded_bytes = 0
        """Estimated bytes of pixels of the running tickets."""
        # In the order of arrival. A linked list, because tickets leave from anywhere.
        self._waiting: OrderedDict[T, None] = OrderedDict()
        # Clients are forgotten with their last ticket.
        self._clients: dict[str, ClientQueue[T]] = {}
        self._totals = tuple(Sum() for _ in Criticality)
        self._fetching = [0] * len(Criticality)
        self._virtual_seconds = 0.0
        self._numbers = itertools.count(1)
        self._front_numbers = itertools.count(-1, -1)

    def __len__(self) -> int:
        return len(self.fetching) + len(self._waiting) + len(self.running)

    def __contains__(self, ticket: T) -> bool:
        return ticket in self.fetching or ticket in self.running or ticket in self._waiting

    @property
    def waiting(self) -> int:
        """How many tickets wait for a worker."""
        return len(self._waiting)

    def is_waiting(self, ticket: T) -> bool:
        return ticket in self._waiting

    def counts(self) -> Mapping[Criticality, int]:
        """How many tickets of each class are fetching or waiting."""
        return MappingProxyType({kind: self._fetching[kind] + self._totals[kind].count for kind in Criticality})

    def waiting_tickets(self) -> list[T]:
        """All tickets that wait for a worker, by class and then by age. Walks over all of them."""
        return sorted(self._waiting, key=lambda ticket: (ticket.criticality, ticket.number))

    def oldest(self) -> T | None:
        """The ticket that has waited longest for a worker."""
        return next(iter(self._waiting), None)

    # Transitions

    def enter(self, ticket: T) -> None:
        """Adds a ticket whose original is being fetched."""
        self.fetching[ticket] = None
        self._fetching[ticket.criticality] += 1
        self._client(ticket).fetching[ticket.criticality] += 1

    def enqueue(self, ticket: T) -> None:
        """Moves a ticket from fetching to the end of its class. Does nothing for a ticket that has left."""
        if ticket not in self.fetching:
            return
        client = self._stop_fetching(ticket)
        ticket.number = next(self._numbers)
        self._waiting[ticket] = None
        client.waiting[ticket.criticality].append(ticket)
        self._totals[ticket.criticality].add(ticket, 1)

    def requeue(self, ticket: T) -> None:
        """Adds a ticket that has left after its worker died, to the front of its class."""
        ticket.number = next(self._front_numbers)
        self._waiting[ticket] = None
        self._waiting.move_to_end(ticket, last=False)
        self._client(ticket).waiting[ticket.criticality].prepend(ticket)
        self._totals[ticket.criticality].add(ticket, 1)

    def start(self, ticket: T) -> None:
        """Moves a ticket from waiting to running. Its client pays with virtual time."""
        client = self._stop_waiting(ticket)
        self.running[ticket] = None
        self.decoded_bytes += decoded_bytes_of(ticket)
        client.running.add(ticket, 1)
        self._virtual_seconds = max(self._virtual_seconds, client.virtual_seconds)
        client.virtual_seconds = self._virtual_seconds + cost_seconds_of(ticket)

    def leave(self, ticket: T) -> bool:
        """Removes a ticket from wherever it is; False if it has left already."""
        if ticket in self.running:
            client = self._stop_running(ticket)
        elif ticket in self.fetching:
            client = self._stop_fetching(ticket)
        elif ticket in self._waiting:
            client = self._stop_waiting(ticket)
        else:
            return False
        if client.is_idle:
            del self._clients[ticket.client]
        return True

    # Decisions

    def next(
        self, kinds: Collection[Criticality], free_bytes: int, *, is_newest_first: Callable[[str, Criticality], bool]
    ) -> T | None:
        """The ticket of these classes whose turn it is, among those that need no more than the free bytes; None if none
        fits. `is_newest_first`: whether the newest request of a client and class is served first.

        Notes the tickets that it skips as short of memory.
        """
        for rank in RANKS:
            if not any(self._totals[kind].count for kind in rank):
                continue
            for name, client in self._in_turn(rank):
                for kind in rank:
                    if kind in kinds and client.waiting[kind].count:
                        newest = is_newest_first(name, kind)
                        ticket = self._next_of_class(client.waiting[kind], free_bytes, newest=newest)
                        if ticket is not None:
                            return ticket
        return None

    def newest_below(self, criticality: Criticality, client: str) -> T | None:
        """The newest waiting ticket of the lowest class below this one: of any client if its rank is lower, else of
        this client."""
        own = self._clients.get(client)
        for kind in range(len(Criticality) - 1, criticality, -1):
            if kind > RANK_OF[criticality][-1]:
                queues = [other.waiting[kind] for other in self._clients.values()] if self._totals[kind].count else []
            else:
                queues = [own.waiting[kind]] if own else []
            newest = max(_tails(queues), key=number_of, default=None)
            if newest is not None:
                return newest
        return None

    def largest_client(self, weight: Callable[[Holding], float]) -> str | None:
        """The client with waiting tickets whose holding weighs most."""
        holdings = {name: client.holding() for name, client in self._clients.items() if client.is_waiting}
        return max(holdings, key=lambda name: weight(holdings[name]), default=None)

    def holding(self, client: str) -> Holding:
        known = self._clients.get(client)
        return known.holding() if known else Holding()

    def newest_of(self, client: str) -> T | None:
        """The newest waiting ticket of this client, in the lowest of its classes."""
        for tickets in reversed(self._clients[client].waiting):
            if tickets.count:
                return max(_tails([tickets]), key=number_of)
        return None

    def oldest_of(self, client: str, kind: Criticality) -> T | None:
        """The first waiting ticket of this client and class."""
        return min(self._clients[client].waiting[kind].heads(), key=number_of, default=None)

    # Predictions

    def backlog(self, criticality: Criticality, rate: ServiceRate, now: float) -> tuple[int, float]:
        """How many tickets of this class and of those before it have not ended, and for how many seconds they will hold
        workers, summed over the workers."""
        count, cost_seconds, fetching = len(self.running), 0.0, 0
        for kind in range(RANK_OF[criticality][-1] + 1):
            count += self._totals[kind].count
            cost_seconds += self._totals[kind].cost_seconds
            fetching += self._fetching[kind]
        seconds = rate.seconds(cost_seconds) + fetching * rate.typical_seconds()
        return count + fetching, seconds + self._running_seconds(rate, now)

    def ahead(self, criticality: Criticality, client: str, rate: ServiceRate, now: float) -> tuple[int, float]:
        """The same for the tickets that are ahead of a new ticket of this class and client.

        The tickets of the client itself are ahead of it. Another client gets at most as much of the workers until then.
        """
        own = self._clients.get(client)
        ahead = own.ahead(criticality, rate) if own else _NOTHING
        return self._ahead(criticality, own, ahead, ahead[1] + rate.typical_seconds(), rate, now)

    def ahead_of_newest(self, ticket: T, rate: ServiceRate, now: float) -> tuple[int, float]:
        """The same for the ticket that was enqueued last. Fetching tickets of its client are not ahead of it."""
        own = self._clients[ticket.client]
        count, until_end = own.ahead(ticket.criticality, rate, fetching=False)
        ahead = count - 1, until_end - remaining_seconds(ticket, rate, now)
        return self._ahead(ticket.criticality, own, ahead, until_end, rate, now)

    def _ahead(
        self,
        criticality: Criticality,
        own: "ClientQueue[T] | None",
        own_ahead: tuple[int, float],
        until_end: float,
        rate: ServiceRate,
        now: float,
    ) -> tuple[int, float]:
        count, seconds = own_ahead
        for client in self._clients.values():
            if client is not own:
                earlier, shared = client.before(criticality, rate)
                count += earlier[0] + shared[0]
                seconds += earlier[1] + min(shared[1], until_end)
        return count + len(self.running), seconds + self._running_seconds(rate, now)

    def _running_seconds(self, rate: ServiceRate, now: float) -> float:
        return sum(remaining_seconds(ticket, rate, now) for ticket in self.running)

    # Bookkeeping

    def _client(self, ticket: T) -> "ClientQueue[T]":
        client = self._clients.get(ticket.client)
        if client is None:
            client = self._clients[ticket.client] = ClientQueue[T](self._virtual_seconds)
        return client

    def _in_turn(self, rank: Collection[Criticality]) -> "list[tuple[str, ClientQueue[T]]]":
        waiting = [item for item in self._clients.items() if item[1].is_waiting_in(rank)]
        if len(waiting) > 1:
            # A client that waited for nothing has no claim to the time that it did not use.
            waiting.sort(key=lambda item: max(item[1].virtual_seconds, self._virtual_seconds))
        return waiting

    def _next_of_class(self, tickets: "ClassQueue[T]", free_bytes: int, *, newest: bool) -> T | None:
        ticket, skipped = tickets.next_that_fits(free_bytes, newest=newest)
        for other in skipped:
            self.short_of_memory[other] = None
        return ticket

    def _stop_waiting(self, ticket: T) -> "ClientQueue[T]":
        client = self._clients[ticket.client]
        client.waiting[ticket.criticality].remove(ticket)
        del self._waiting[ticket]
        self._totals[ticket.criticality].add(ticket, -1)
        self.short_of_memory.pop(ticket, None)
        return client

    def _stop_fetching(self, ticket: T) -> "ClientQueue[T]":
        client = self._clients[ticket.client]
        del self.fetching[ticket]
        self._fetching[ticket.criticality] -= 1
        client.fetching[ticket.criticality] -= 1
        return client

    def _stop_running(self, ticket: T) -> "ClientQueue[T]":
        client = self._clients[ticket.client]
        del self.running[ticket]
        self.decoded_bytes -= decoded_bytes_of(ticket)
        client.running.add(ticket, -1)
        return client


_NOTHING = (0, 0.0)


def remaining_seconds(ticket: QueueEntry, rate: ServiceRate, now: float) -> float:
    """Seconds for which the ticket will hold its worker from now on."""
    seconds = rate.typical_seconds() if ticket.cost is None else rate.seconds(ticket.cost.seconds)
    return seconds if ticket.started is None else max(0.0, seconds - (now - ticket.started))


def _tails(queues: "Iterable[ClassQueue[T]]") -> Iterator[T]:
    return itertools.chain.from_iterable(tickets.tails() for tickets in queues)
