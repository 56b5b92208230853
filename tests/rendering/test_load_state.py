from imgserver.rendering.admission_settings import AdmissionSettings
from imgserver.rendering.load_state import LoadState

SETTINGS = AdmissionSettings(standing_seconds=1.0, deadline_seconds=10.0)


def test_a_queue_is_standing_when_it_has_not_been_short_for_a_second():
    load = LoadState(SETTINGS, now=0.0)
    load.note_wait(0.5, 0.1, 0.1)

    assert not load.is_standing(1.4)
    load.note_wait(1.4, 0.9, 0.1)
    assert load.is_standing(1.6)


def test_a_refusal_alone_is_no_overload():
    load = LoadState(SETTINGS, now=0.0)
    load.note_refusal(0.0)

    assert not load.is_overloaded(0.9, backlog_wait=9.0)
    assert load.is_overloaded(1.1, backlog_wait=9.0)


def test_an_overload_ends_when_most_of_the_queue_is_worked_off():
    load = LoadState(SETTINGS, now=0.0)
    load.note_refusal(0.0)

    assert load.is_overloaded(5.0, backlog_wait=2.6)
    assert not load.is_overloaded(6.0, backlog_wait=2.4)
    assert not load.is_overloaded(7.0, backlog_wait=9.0)
