import contextlib
import dataclasses
import timeit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.cache import record
from imgserver.cache.record import REASONS, Corrupt, decode, encode, peek
from imgserver.plan.plan import Dims
from imgserver.plan.rendition import CachePolicy, Fingerprint, Rendition
from imgserver.testing import make_rendition

KEY = "1/" + "a" * 32 + "/" + "b" * 32
RENDITION = make_rendition(
    b"\x00picture\xff" * 20, fresh_until=12.5, expires=99.0, generations=(("a", ""), ("s1", "0123"), ("d2", ""))
)
RECORD = encode(KEY, RENDITION)

WHOLE = st.integers(-(2**63), 2**64 - 1)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
RENDITIONS = st.builds(
    Rendition,
    body=st.binary(max_size=300),
    media_type=TEXT,
    etag=TEXT,
    size=st.builds(Dims, *(st.integers(1, 60_000),) * 4),
    source_format=TEXT,
    fingerprint=TEXT.map(Fingerprint),
    modified=st.none() | WHOLE,
    created=NUMBER,
    render_seconds=NUMBER,
    fresh_until=st.none() | NUMBER,
    expires=st.none() | NUMBER,
    max_age_seconds=st.none() | WHOLE,
    cache_policy=st.sampled_from([CachePolicy.SHARED, CachePolicy.MUST_REVALIDATE]),
    generations=st.lists(st.tuples(TEXT, TEXT), max_size=5).map(tuple),
)


def reason_of(key: str, data: bytes) -> str:
    with pytest.raises(Corrupt) as caught:
        decode(key, data)
    assert caught.value.reason in REASONS
    return caught.value.reason


@given(TEXT, RENDITIONS)
def test_decode_returns_what_was_encoded(key, rendition):
    assert decode(key, encode(key, rendition)) == rendition


def test_every_field_of_a_rendition_survives():
    """A field that is added to Rendition but not to the record would be decoded as its default."""
    # Fields that are not compared belong to the request, not to the rendition.
    assert {field.name for field in dataclasses.fields(Rendition) if field.compare} == {
        *("body", "media_type", "etag", "size", "source_format", "fingerprint", "modified", "created"),
        *("render_seconds", "fresh_until", "expires", "max_age_seconds", "cache_policy", "generations"),
    }
    assert decode(KEY, RECORD) == RENDITION


@given(st.binary(max_size=400))
def test_random_bytes_are_corrupt(data):
    reason_of(KEY, data)


@given(st.integers(0, len(RECORD) * 8 - 1))
def test_a_flipped_bit_is_corrupt(bit):
    flipped = bytearray(RECORD)
    flipped[bit // 8] ^= 1 << bit % 8

    reason_of(KEY, bytes(flipped))


@given(st.integers(0, len(RECORD) - 1))
def test_a_truncated_record_is_corrupt(length):
    assert reason_of(KEY, RECORD[:length]) == ("length" if length else "empty")


def test_trailing_bytes_are_corrupt():
    assert reason_of(KEY, RECORD + b"\0") == "length"


def test_the_record_of_another_key_is_corrupt():
    assert reason_of(KEY + "x", RECORD) == "key"


def test_a_record_of_another_schema_is_corrupt(monkeypatch):
    monkeypatch.setattr(record, "SCHEMA", 0)
    old = encode(KEY, RENDITION)
    monkeypatch.undo()

    assert reason_of(KEY, old) == "schema"


ODD = st.recursive(
    st.none() | st.booleans() | WHOLE | NUMBER | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4)
)


@given(st.lists(ODD, max_size=19) | ODD, st.integers(0, 15), ODD)
def test_a_well_formed_envelope_around_an_odd_header_is_corrupt_or_whole(fields, index, odd):
    """A foreign writer into the same Redis can compute checksums, too."""
    for header in (fields, _with_field(index, odd)):
        with contextlib.suppress(Corrupt):
            assert isinstance(decode(KEY, _forge(orjson.dumps(header))), Rendition)


@pytest.mark.parametrize("policy", ["private", "no-store", "", "other"])
def test_a_record_of_what_may_not_be_stored_is_corrupt(policy):
    header = [policy if field == "shared" else field for field in _with_field(0, KEY)]

    assert reason_of(KEY, _forge(orjson.dumps(header))) == "header"


@given(st.integers(0, 10))
def test_any_field_of_a_wrong_type_is_corrupt(index):
    assert reason_of(KEY, _forge(orjson.dumps(_with_field(index, {})))) == "header"


def test_peek_reads_key_expiry_and_generations_from_the_head():
    long = encode(KEY, dataclasses.replace(RENDITION, body=b"x" * 100_000))

    assert peek(long[: record.HEAD_BYTES]) == (KEY, 99.0, RENDITION.generations)
    for head in (b"", RECORD[:40], b"\0" * 100):
        with pytest.raises(Corrupt):
            peek(head)


@pytest.mark.parametrize(
    "changes",
    [
        {"etag": "\ud800"},
        {"modified": 2**70},
        {"generations": (("g" * 9000, ""),)},
        {"generations": (("g", ""),) * 101},
    ],
    ids=str,
)
def test_encode_refuses_what_a_record_cannot_hold(changes):
    with pytest.raises(ValueError, match="record"):
        encode(KEY, make_rendition(**changes))


def test_a_large_record_is_quick():
    """Half a millisecond of 200 kB is the event loop's, so the limit here leaves room for a busy machine."""
    large = make_rendition(b"\x5a" * 200_000, generations=RENDITION.generations)
    data = encode(KEY, large)

    assert min(timeit.repeat(lambda: encode(KEY, large), number=10, repeat=10)) / 10 < 0.001
    assert min(timeit.repeat(lambda: decode(KEY, data), number=10, repeat=10)) / 10 < 0.001


def _with_field(index, value):
    header_bytes = int.from_bytes(RECORD[4:8], "big")
    fields = orjson.loads(RECORD[32 : 32 + header_bytes])
    fields[index % len(fields)] = value
    return fields


def _forge(header: bytes) -> bytes:
    checked = record._PREFIX.pack(record.MAGIC, record.SCHEMA, len(header), 0, b"")[: record._CHECKED]
    return checked + record._checksum(checked, header, b"") + header
