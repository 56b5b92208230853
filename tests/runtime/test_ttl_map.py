import tracemalloc

import pytest

from imgserver.runtime.ttl_map import ENTRY_BYTES, MAX_BYTES, BoundedMap, TtlMap


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


def test_expired_entries_are_removed_two_per_put():
    now = 100.0
    entries = TtlMap[int, bool](1.0, clock=lambda: now)
    for number in range(4):
        entries.put(number, True)
    now += 2.0
    entries.put(4, True)

    assert len(entries) == 3
    entries.put(5, True)
    assert len(entries) == 2


def test_an_entry_that_is_born_expired_leaves_an_empty_map():
    entries = TtlMap[int, bool](0.0, clock=lambda: 100.0)
    entries.put(1, True)

    assert len(entries) == 0


def test_the_values_are_those_that_have_not_expired():
    now = 100.0
    entries = TtlMap[str, int](1.0, clock=lambda: now)
    entries.put("a", 1, ttl_seconds=5.0)
    entries.put("b", 2)
    now += 2.0

    assert list(entries.values()) == [1]


def test_a_bounded_map_evicts_the_entry_that_was_put_least_recently():
    entries = BoundedMap[str, int](2)
    entries.put("a", 1)
    entries.put("b", 2)
    entries.put("a", 3)
    entries.put("c", 4)

    assert list(entries.items()) == [("a", 3), ("c", 4)]


def test_a_bounded_map_evicts_the_oldest_entries_beyond_max_bytes():
    entries = BoundedMap[str, bytes](max_bytes=10_000, bytes_of=lambda _, value: len(value))
    for key in "abc":
        entries.put(key, bytes(4000))

    assert [key for key, _ in entries.items()] == ["b", "c"]
    assert entries.bytes == 2 * (4000 + ENTRY_BYTES)
    entries.put("b", bytes(1))
    assert entries.bytes == 4001 + 2 * ENTRY_BYTES
    entries.pop("b")
    entries.pop("never put")
    assert entries.bytes == 4000 + ENTRY_BYTES
    entries.clear()
    assert (entries.bytes, len(entries)) == (0, 0)


def test_an_entry_larger_than_a_whole_map_replaces_none_of_its_entries():
    entries = BoundedMap[str, bytes](max_bytes=5000, bytes_of=lambda _, value: len(value))
    entries.put("small", b"")
    entries.put("large", bytes(5000))

    assert [key for key, _ in entries.items()] == ["small"]


@pytest.mark.parametrize("entries", [BoundedMap[str, bool](), TtlMap[str, bool](60.0)])
def test_long_keys_take_no_more_than_the_default_bytes(entries):
    tracemalloc.start()
    try:
        for number in range(2_000):
            entries.put(f"{number}".zfill(8_000), True)
        assert tracemalloc.get_traced_memory()[0] < 1.1 * MAX_BYTES
        assert len(entries) > 400
    finally:
        tracemalloc.stop()


def test_short_keys_take_no_more_than_their_estimated_bytes():
    entries = TtlMap[str, float](60.0, max_bytes=1_000_000)
    tracemalloc.start()
    try:
        for number in range(4_000):
            entries.put(f"client {number}", float(number))
        assert 0.5 * 1_000_000 < tracemalloc.get_traced_memory()[0] < 1.1 * 1_000_000
    finally:
        tracemalloc.stop()
