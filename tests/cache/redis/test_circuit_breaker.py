import pytest

from imgserver.cache.redis.circuit_breaker import (
    LAST_PROBE_SECONDS,
    MAX_FAULTS,
    REFUSED_PROBE_SECONDS,
    SLOW_WINDOW,
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


def test_it_starts_open_and_its_first_probe_has_no_pause():
    breaker = CircuitBreaker(budget_seconds=BUDGET)

    assert (breaker.state, breaker.pause(), breaker.opened) == ("open", 0, 0)


def test_five_faults_within_a_second_open_it(breaker, clock):
    for _ in range(MAX_FAULTS - 1):
        breaker.record_fault(0.001)
        clock.now += 0.2
    assert not breaker.is_open
    breaker.record_fault(0.001)

    assert (breaker.state, breaker.reason, breaker.opened) == ("open", "errors", 1)


def test_faults_far_apart_do_not_open_it(breaker, clock):
    for _ in range(100):
        breaker.record_fault(0.001)
        clock.now += 0.3

    assert not breaker.is_open


def test_more_than_one_percent_of_slow_replies_opens_it(breaker):
    for number in range(SLOW_WINDOW * 3):
        breaker.record_success(1.0 if number % 100 == 0 else 0.001)
    assert not breaker.is_open
    breaker.record_success(1.0)
    breaker.record_success(1.0)

    assert (breaker.state, breaker.reason) == ("open", "slow")


def test_a_few_slow_replies_after_the_start_do_not_open_it(breaker):
    for _ in range(SLOW_WINDOW - 1):
        breaker.record_success(1.0)

    assert not breaker.is_open


def test_trip_opens_it_once(breaker):
    breaker.trip("oom")
    breaker.trip("oom")

    assert (breaker.state, breaker.reason, breaker.opened) == ("open", "oom", 1)


def test_probes_back_off_to_thirty_seconds_and_to_four_after_a_refused_connection(breaker):
    breaker.trip("errors")
    pauses = []
    for _ in range(8):
        pauses.append(breaker.pause())
        breaker.reject_probe(refused=False)
    breaker.reject_probe(refused=True)

    assert pauses == [1, 2, 4, 8, 16, LAST_PROBE_SECONDS, LAST_PROBE_SECONDS, LAST_PROBE_SECONDS]
    assert breaker.pause() == REFUSED_PROBE_SECONDS


def test_opening_again_soon_lengthens_the_pause_and_opening_later_resets_it(breaker, clock):
    def pause_after(closed_seconds):
        clock.now += closed_seconds
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


def test_closing_forgets_earlier_faults(breaker, clock):
    for _ in range(MAX_FAULTS):
        breaker.record_fault(0.001)
    breaker.close()
    for _ in range(MAX_FAULTS - 1):
        breaker.record_fault(0.001)

    assert not breaker.is_open
