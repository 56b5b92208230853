from imgserver.runtime.ttl_map import TtlMap


def test_an_entry_expires_after_its_ttl():
    now = 100.0
    entries = TtlMap[str, int](1.0, clock=lambda: now)
    entries.put("a", 1)

    assert entries.get("a") == 1
    now += 1.001
    assert entries.get("a") is None


def test_an_entry_may_have_a_ttl_of_its_own():
    now = 100.0
    entries = TtlMap[str, int](1.0, clock=lambda: now)
    entries.put("a", 1, ttl_seconds=10.0)

    now += 9.0
    assert entries.get("a") == 1


def test_an_unknown_key_has_no_value():
    assert TtlMap[str, int](1.0).get("a") is None


def test_the_oldest_entry_is_evicted_beyond_max_entries():
    entries = TtlMap[int, bool](1.0, max_entries=2, clock=lambda: 0.0)
    for number in range(5):
        entries.put(number, True)

    assert [entries.get(number) for number in range(5)] == [None] * 3 + [True] * 2
    assert len(entries) == 2


def test_a_popped_entry_is_gone():
    entries = TtlMap[str, int](1.0)
    entries.put("a", 1)
    entries.pop("a")

    assert entries.get("a") is None
