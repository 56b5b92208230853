"""The sums that are kept are those that a walk over all tickets would give."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.rendering.cost import Cost, Pace
from imgserver.rendering.queue import Backlog, Criticality, left_to_do

DEEDS = st.lists(
    st.tuples(st.sampled_from(["enter", "ask", "start", "leave"]), st.integers(0, 9), st.sampled_from(Criticality)),
    max_size=60,
)


@dataclass(eq=False)
class Someone:
    criticality: Criticality
    cost: Cost | None = None
    started: float | None = None


def do(backlog: Backlog[Someone], deed: str, someone: Someone, cost: float, now: float) -> None:
    match deed:
        case "ask" if someone in backlog.fetching:
            someone.cost = Cost(cost)
            backlog.ask(someone)
        case "start" if someone in backlog.queued:
            someone.started = now
            backlog.start(someone)
        case "leave":
            assert backlog.leave(someone)


@given(DEEDS)
def test_what_is_ahead_is_what_a_walk_would_find(deeds):
    backlog, pace, everyone = Backlog[Someone](), Pace(), []
    for now, (deed, number, kind) in enumerate(deeds):
        if deed == "enter":
            everyone.append(Someone(kind))
            backlog.enter(everyone[-1])
        elif everyone:
            someone = everyone[number % len(everyone)]
            do(backlog, deed, someone, cost=(number + 1) / 7, now=float(now))
            if deed == "leave":
                everyone.remove(someone)

        assert len(backlog) == len(everyone)
        for asking in Criticality:
            ahead = [one for one in everyone if one.started is not None or one.criticality <= asking]
            count, seconds = backlog.ahead(asking, pace, now + 0.1)
            assert count == len(ahead)
            assert seconds == pytest.approx(sum(left_to_do(one, pace, now + 0.1) for one in ahead))


def test_who_has_left_cannot_leave_again_or_ask():
    backlog, someone = Backlog[Someone](), Someone(Criticality.NORMAL)
    backlog.enter(someone)

    assert backlog.leave(someone)
    assert not backlog.leave(someone)
    backlog.ask(someone)
    assert len(backlog) == 0
