"""The indexed queue answers as a list would that is sorted and walked each time."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.rendering.cost import Cost, ServiceRate
from imgserver.rendering.queue import Criticality, RenderQueue, remaining_seconds


@dataclass(eq=False)
class Entry:
    criticality: Criticality
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
    short_of_memory: list[Entry] = field(default_factory=list)

    def of_class(self, criticality: Criticality) -> list[Entry]:
        return [entry for entry in self.waiting if entry.criticality is criticality]

    def ahead(self, criticality: Criticality, rate: ServiceRate, now: float) -> tuple[int, float]:
        queued = [entry for entry in self.fetching + self.waiting if entry.criticality <= criticality]
        ahead = self.running + queued
        return len(ahead), sum(remaining_seconds(entry, rate, now) for entry in ahead)

    def newest_below(self, criticality: Criticality) -> Entry | None:
        for kind in reversed(Criticality):
            if kind > criticality and self.of_class(kind):
                return self.of_class(kind)[-1]
        return None

    def first_that_fits(self, criticality: Criticality, free_bytes: int) -> Entry | None:
        """Walks over the whole class in turn; skips whole buckets whose first entry is too large."""
        closed_buckets = set()
        for entry in self.of_class(criticality):
            bucket = entry.cost.decoded_bytes.bit_length()
            if bucket in closed_buckets:
                continue
            if entry.cost.decoded_bytes <= free_bytes:
                return entry
            closed_buckets.add(bucket)
            if entry not in self.short_of_memory:
                self.short_of_memory.append(entry)
        return None


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "enqueue", "enqueue", "start", "leave", "requeue", "first_that_fits"]),
        st.integers(0, 30),
        st.sampled_from(Criticality),
        st.integers(0, 40),
    ),
    max_size=80,
)


class Pair:
    """The queue and the naive queue; each action is done to both."""

    def __init__(self) -> None:
        self.queue, self.naive = RenderQueue[Entry](), NaiveQueue()
        self.now = 0.0

    def act(self, action: str, choice: int, criticality: Criticality, number: int) -> None:
        self.now += 0.5
        match action:
            case "enter":
                entry = Entry(criticality)
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
                self.naive.running.append(entry)
                self.no_longer_short(entry)
            case "leave":
                self.leave(choice)
            case "requeue" if self.naive.left:
                entry = self.naive.left.pop(choice % len(self.naive.left))
                entry.started = None
                self.queue.requeue(entry)
                self.naive.waiting.insert(0, entry)
            case "first_that_fits":
                expected = self.naive.first_that_fits(criticality, number)
                assert self.queue.first_that_fits(criticality, number) is expected

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
        self.no_longer_short(entry)
        if entry.started is not None:
            self.naive.left.append(entry)

    def no_longer_short(self, entry: Entry) -> None:
        if entry in self.naive.short_of_memory:
            self.naive.short_of_memory.remove(entry)


@given(ACTIONS)
def test_each_answer_is_that_of_a_naive_queue(actions):
    pair, rate = Pair(), ServiceRate()
    for action in actions:
        pair.act(*action)
        queue, naive, now = pair.queue, pair.naive, pair.now + 0.1

        assert len(queue) == len(naive.fetching) + len(naive.waiting) + len(naive.running)
        assert queue.waiting == len(naive.waiting)
        assert queue.decoded_bytes == sum(entry.cost.decoded_bytes for entry in naive.running)
        assert list(queue.short_of_memory) == naive.short_of_memory
        assert queue.waiting_tickets() == sorted(naive.waiting, key=lambda entry: entry.criticality)
        assert all(entry in queue for entry in naive.fetching + naive.waiting + naive.running)
        assert not any(entry in queue for entry in naive.left)
        for criticality in Criticality:
            count, seconds = naive.ahead(criticality, rate, now)
            assert queue.ahead(criticality, rate, now) == (count, pytest.approx(seconds))
            assert queue.newest_below(criticality) is naive.newest_below(criticality)
            assert queue.counts()[criticality] == len(naive.of_class(criticality)) + sum(
                entry.criticality is criticality for entry in naive.fetching
            )


@given(ACTIONS, st.sampled_from(Criticality))
def test_fetching_entries_are_not_ahead_of_an_enqueued_one(actions, criticality):
    pair, rate = Pair(), ServiceRate()
    for action in [*actions, ("enter", 0, criticality, 0)]:
        pair.act(*action)
    entry = pair.naive.fetching.pop()
    pair.naive.fetching.clear()
    count, seconds = pair.naive.ahead(criticality, rate, pair.now)
    entry.cost = Cost(0.3)
    pair.queue.enqueue(entry)

    assert pair.queue.ahead_of_newest(entry, rate, pair.now) == (count, pytest.approx(seconds))


@given(ACTIONS)
def test_the_first_entry_of_each_class_is_the_head_of_a_bucket(actions):
    pair = Pair()
    for action in actions:
        pair.act(*action)
    heads = list(pair.queue.heads())

    firsts = [pair.naive.of_class(criticality)[:1] for criticality in Criticality]
    assert all(first in heads for class_firsts in firsts for first in class_firsts)


def test_an_entry_that_has_left_can_neither_leave_again_nor_be_enqueued():
    queue, entry = RenderQueue[Entry](), Entry(Criticality.NORMAL)
    queue.enter(entry)

    assert queue.leave(entry)
    assert not queue.leave(entry)
    queue.enqueue(entry)
    assert len(queue) == 0
