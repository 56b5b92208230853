"""Which waiting ticket is refused when another one needs its place."""

from imgserver.rendering.cost import ServiceRate
from imgserver.rendering.queue import Criticality, RenderQueue
from imgserver.rendering.ticket import Ticket


class Eviction:
    """Chooses; `admission.py` refuses the chosen ticket."""

    def __init__(self, queue: RenderQueue[Ticket], rate: ServiceRate) -> None:
        self._queue = queue
        self._rate = rate

    def lesser(self, criticality: Criticality, client: str) -> Ticket | None:
        """The ticket that gives its place in a full queue to a new one: the newest of a lower rank or of a lower class
        of this client, else the newest of the client with the most tickets, if it keeps as many as this client has."""
        lower = self._queue.newest_below(criticality, client)
        if lower is not None:
            return lower
        largest = self._queue.largest_client(lambda holding: holding.count)
        if largest is None or largest == client:
            return None
        keeps = self._queue.holding(largest).count - 1
        return self._queue.newest_of(largest) if keeps > self._queue.holding(client).count else None

    def excess(self, ticket: Ticket) -> Ticket | None:
        """The newest ticket of the client that holds most, if that client keeps as much as the client of `ticket`."""
        newest = self.newest_of_largest()
        if newest is None or newest.client == ticket.client:
            return None
        seconds = self._rate.seconds(newest.cost.seconds) if newest.cost else self._rate.typical_seconds()
        return newest if self._held(newest.client) - seconds >= self._held(ticket.client) else None

    def newest_of_largest(self) -> Ticket | None:
        """The newest ticket of the client whose tickets will hold workers longest."""
        largest = self._queue.largest_client(lambda holding: holding.seconds(self._rate))
        return None if largest is None else self._queue.newest_of(largest)

    def _held(self, client: str) -> float:
        return self._queue.holding(client).seconds(self._rate)
