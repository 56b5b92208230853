import pytest

from imgserver.cache.redis.circuit_breaker import (
    FAULTS,
    LAST_PROBE_SECONDS,
    REFUSED_PROBE_SECONDS,
    WINDOW,
    CircuitBreaker,
)

BUDGET = 0.05


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    breaker = CircuitBreaker(budget_seconds=BUDGET, clock=clock, draw=lambda: 0.5)
    breaker.close()
    clock.now += 100
    return breaker


def test_it_starts_open_and_its_first_probe_waits_for_nothing():
    breaker = CircuitBreaker(budget_seconds=BUDGET)

    assert (breaker.state, breaker.pause(), breaker.opened) == ("open", 0, 0)


def test_five_faults_within_a_second_open_it(breaker, clock):
    for _ in range(FAULTS - 1):
        breaker.failed(0.001)
        clock.now += 0.2
    assert not breaker.is_open
    breaker.failed(0.001)

    assert (breaker.state, breaker.reason, breaker.opened) == ("open", "errors", 1)


def test_faults_far_apart_do_not_open_it(breaker, clock):
    for _ in range(100):
        breaker.failed(0.001)
        clock.now += 0.3

    assert not breaker.is_open


def test_a_slow_percent_opens_it_and_less_does_not(breaker):
    for number in range(WINDOW * 3):
        breaker.succeeded(1.0 if number % 100 == 0 else 0.001)
    assert not breaker.is_open
    breaker.succeeded(1.0)
    breaker.succeeded(1.0)

    assert (breaker.state, breaker.reason) == ("open", "slow")


def test_a_few_slow_answers_after_a_start_do_not_open_it(breaker):
    for _ in range(WINDOW - 1):
        breaker.succeeded(1.0)

    assert not breaker.is_open


def test_an_answer_that_tells_all_opens_it_at_once_and_once(breaker):
    breaker.trip("oom")
    breaker.trip("oom")

    assert (breaker.state, breaker.reason, breaker.opened) == ("open", "oom", 1)


def test_probes_back_off_to_thirty_seconds_and_to_four_where_nobody_listens(breaker):
    breaker.trip("errors")
    dear = []
    for _ in range(8):
        dear.append(breaker.pause())
        breaker.refuse(cheaply=False)
    breaker.refuse(cheaply=True)

    assert dear == [1, 2, 4, 8, 16, LAST_PROBE_SECONDS, LAST_PROBE_SECONDS, LAST_PROBE_SECONDS]
    assert breaker.pause() == REFUSED_PROBE_SECONDS


def test_a_relapse_waits_longer_and_a_long_health_forgets_it(breaker, clock):
    def pause_after(health_seconds):
        clock.now += health_seconds
        breaker.trip("errors")
        pause = breaker.pause()
        breaker.close()
        return pause

    assert [pause_after(seconds) for seconds in (60, 1, 1, 60)] == [1, 2, 4, 1]


def test_pauses_are_spread():
    pauses = []
    for draw in (0.0, 1.0):
        breaker = CircuitBreaker(budget_seconds=BUDGET, draw=lambda draw=draw: draw)
        breaker.close()
        breaker.trip("errors")
        pauses.append(breaker.pause())

    assert pauses[1] / pauses[0] == pytest.approx(1.2 / 0.8)


def test_closing_forgets_what_was(breaker, clock):
    for _ in range(FAULTS):
        breaker.failed(0.001)
    breaker.close()
    for _ in range(FAULTS - 1):
        breaker.failed(0.001)

    assert not breaker.is_open
