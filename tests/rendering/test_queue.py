"""The indexed queue answers as a list would that is sorted and walked each time."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.rendering.client_queue import RANK_OF, RANKS, Criticality, Holding
from imgserver.rendering.cost import Cost, ServiceRate
from imgserver.rendering.queue import RenderQueue, remaining_seconds

CLIENTS = ("", "one", "two")


@dataclass(eq=False)
class Entry:
    criticality: Criticality
    client: str = ""
    cost: Cost | None = None
    number: int = 0
    started: float | None = None


@dataclass
class NaiveQueue:
    """The same queue as three lists."""

    fetching: list[Entry] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)
    running: list[Entry] = field(default_factory=list)
    left: list[Entry] = field(default_factory=list)
    virtual: dict[str, float] = field(default_factory=dict)
    virtual_now: float = 0.0

    def of_class(self, criticality: Criticality, client: str | None = None) -> list[Entry]:
        return [it for it in self.waiting if it.criticality is criticality and client in (None, it.client)]

    def backlog(self, criticality: Criticality, rate: ServiceRate, now: float) -> tuple[int, float]:
        kinds = [kind for rank in RANKS if rank[0] <= criticality for kind in rank]
        entries = self.running + [entry for entry in self.fetching + self.waiting if entry.criticality in kinds]
        return len(entries), sum(remaining_seconds(entry, rate, now) for entry in entries)

    def ahead(self, criticality: Criticality, client: str, rate: ServiceRate, now: float) -> tuple[int, float]:
        queued = self.fetching + self.waiting
        own = [entry for entry in queued if entry.client == client and entry.criticality <= criticality]
        rank = RANK_OF[criticality]
        before = [entry for entry in queued if entry.client != client and entry.criticality < rank[0]]
        certain = self.running + own + before
        seconds = sum(remaining_seconds(entry, rate, now) for entry in certain)
        until_end = sum(remaining_seconds(entry, rate, now) for entry in own) + rate.typical_seconds()
        shared = [entry for entry in queued if entry.client != client and entry.criticality in rank]
        for other in CLIENTS:
            others = sum(remaining_seconds(entry, rate, now) for entry in shared if entry.client == other)
            seconds += min(others, until_end)
        return len(certain) + len(shared), seconds

    def newest_below(self, criticality: Criticality, client: str) -> Entry | None:
        rank = RANK_OF[criticality]
        for kind in reversed(Criticality):
            entries = self.of_class(kind, client if kind in rank else None)
            if kind > criticality and entries:
                return entries[-1]
        return None

    def virtual_of(self, client: str) -> float:
        return max(self.virtual.get(client, 0.0), self.virtual_now)

    def start(self, entry: Entry) -> None:
        self.virtual_now = self.virtual_of(entry.client)
        self.virtual[entry.client] = self.virtual_now + entry.cost.seconds

    def forget_idle_clients(self) -> None:
        known = {entry.client for entry in self.fetching + self.waiting + self.running}
        self.virtual = {name: value for name, value in self.virtual.items() if name in known}

    def next(self, free_bytes: int, *, newest: bool) -> Entry | None:
        """Walks over all clients in turn, and over each class; skips whole buckets whose first entry is too large."""
        for rank in RANKS:
            in_turn = sorted(CLIENTS, key=self.virtual_of)
            for client in in_turn:
                for kind in rank:
                    found = self._first_that_fits(self.of_class(kind, client), free_bytes, newest=newest)
                    if found is not None:
                        return found
        return None

    @staticmethod
    def _first_that_fits(entries: list[Entry], free_bytes: int, *, newest: bool) -> Entry | None:
        closed_buckets = set()
        for entry in reversed(entries) if newest else entries:
            bucket = entry.cost.decoded_bytes.bit_length()
            if bucket not in closed_buckets and entry.cost.decoded_bytes <= free_bytes:
                return entry
            closed_buckets.add(bucket)
        return None


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "enqueue", "enqueue", "start", "leave", "requeue", "next"]),
        st.integers(0, 30),
        st.sampled_from(Criticality),
        st.sampled_from(CLIENTS),
        st.integers(0, 40),
    ),
    max_size=80,
)


class Pair:
    """The queue and the naive queue; each action is done to both."""

    def __init__(self) -> None:
        self.queue, self.naive = RenderQueue[Entry](), NaiveQueue()
        self.now = 0.0

    def act(self, action: str, choice: int, criticality: Criticality, client: str, number: int) -> None:
        self.now += 0.5
        match action:
            case "enter":
                entry = Entry(criticality, client)
                self.queue.enter(entry)
                self.naive.fetching.append(entry)
            case "enqueue" if self.naive.fetching:
                entry = self.naive.fetching.pop(choice % len(self.naive.fetching))
                entry.cost = Cost((choice + 1) / 7, decoded_bytes=number)
                self.queue.enqueue(entry)
                self.naive.waiting.append(entry)
            case "start" if self.naive.waiting:
                entry = self.naive.waiting.pop(choice % len(self.naive.waiting))
                entry.started = self.now
                self.queue.start(entry)
                self.naive.start(entry)
                self.naive.running.append(entry)
            case "leave":
                self.leave(choice)
            case "requeue" if self.naive.left:
                entry = self.naive.left.pop(choice % len(self.naive.left))
                entry.started = None
                self.queue.requeue(entry)
                self.naive.waiting.insert(0, entry)
            case "next":
                newest = bool(choice % 2)
                found = self.queue.next(list(Criticality), number, is_newest_first=lambda *_: newest)
                expected = self.naive.next(number, newest=newest)
                assert found is expected or self.is_tie(found, expected)
        self.naive.forget_idle_clients()

    def is_tie(self, one: Entry | None, other: Entry | None) -> bool:
        """Clients with equal virtual times are served in any order."""
        if one is None or other is None or one.client == other.client:
            return False
        return self.naive.virtual_of(one.client) == self.naive.virtual_of(other.client)

    def leave(self, choice: int) -> None:
        entries = self.naive.fetching + self.naive.waiting + self.naive.running
        if not entries:
            return
        entry = entries[choice % len(entries)]
        assert self.queue.leave(entry)
        assert not self.queue.leave(entry)
        for place in (self.naive.fetching, self.naive.waiting, self.naive.running):
            if entry in place:
                place.remove(entry)
        if entry.started is not None:
            self.naive.left.append(entry)


@given(ACTIONS)
def test_each_answer_is_that_of_a_naive_queue(actions):
    pair, rate = Pair(), ServiceRate()
    for action in actions:
        pair.act(*action)
        queue, naive, now = pair.queue, pair.naive, pair.now + 0.1

        assert len(queue) == len(naive.fetching) + len(naive.waiting) + len(naive.running)
        assert queue.waiting == len(naive.waiting)
        assert queue.decoded_bytes == sum(entry.cost.decoded_bytes for entry in naive.running)
        assert set(queue.short_of_memory) <= set(naive.waiting)
        assert queue.waiting_tickets() == sorted(naive.waiting, key=lambda entry: entry.criticality)
        assert all(entry in queue for entry in naive.fetching + naive.waiting + naive.running)
        assert not any(entry in queue for entry in naive.left)
        for criticality in Criticality:
            count, seconds = naive.backlog(criticality, rate, now)
            assert queue.backlog(criticality, rate, now) == (count, pytest.approx(seconds))
            for client in CLIENTS:
                count, seconds = naive.ahead(criticality, client, rate, now)
                assert queue.ahead(criticality, client, rate, now) == (count, pytest.approx(seconds))
                assert queue.newest_below(criticality, client) is naive.newest_below(criticality, client)
            assert queue.counts()[criticality] == len(naive.of_class(criticality)) + sum(
                entry.criticality is criticality for entry in naive.fetching
            )


@given(ACTIONS, st.sampled_from(Criticality), st.sampled_from(CLIENTS))
def test_fetching_entries_of_the_client_are_not_ahead_of_an_enqueued_one(actions, criticality, client):
    pair, rate = Pair(), ServiceRate()
    for action in [*actions, ("enter", 0, criticality, client, 0)]:
        pair.act(*action)
    entry = pair.naive.fetching.pop()
    entry.cost = Cost(rate.typical_seconds())
    pair.queue.enqueue(entry)
    pair.naive.fetching = [other for other in pair.naive.fetching if other.client != client]

    expected = pair.naive.ahead(criticality, client, rate, pair.now)
    assert pair.queue.ahead_of_newest(entry, rate, pair.now) == (expected[0], pytest.approx(expected[1]))


@given(ACTIONS)
def test_a_client_is_forgotten_with_its_last_entry(actions):
    pair = Pair()
    for action in actions:
        pair.act(*action)
    for entry in pair.naive.fetching + pair.naive.waiting + pair.naive.running:
        pair.queue.leave(entry)

    assert len(pair.queue) == 0
    assert all(pair.queue.holding(client) == Holding() for client in CLIENTS)
    assert pair.queue.largest_client(lambda holding: holding.count) is None


def test_an_entry_that_has_left_can_neither_leave_again_nor_be_enqueued():
    queue, entry = RenderQueue[Entry](), Entry(Criticality.NORMAL)
    queue.enter(entry)

    assert queue.leave(entry)
    assert not queue.leave(entry)
    queue.enqueue(entry)
    assert len(queue) == 0
