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
DIMENSION = st.integers(1, 60_000)
TIME = st.floats(0, 4e9)
RENDITIONS = st.builds(
    Rendition,
    body=st.binary(max_size=300),
    media_type=st.from_regex(r"(image|text)/[a-z0-9.+-]{1,20}(; charset=utf-8)?", fullmatch=True),
    etag=st.from_regex("[0-9a-f]{32}", fullmatch=True),
    size=st.builds(Dims, DIMENSION, DIMENSION, st.integers(1, 8), DIMENSION),
    source_format=st.sampled_from(["jpg", "png", "avif", "x-plugin.1", ""]),
    fingerprint=TEXT.map(Fingerprint),
    modified=st.none() | st.integers(-(10**10), 10**11),
    created=TIME,
    render_seconds=st.floats(0, 3600),
    fresh_until=st.none() | TIME,
    expires=st.none() | TIME,
    max_age_seconds=st.none() | st.integers(0, 2**40),
    cache_policy=st.sampled_from([CachePolicy.SHARED, CachePolicy.MUST_REVALIDATE]),
    generations=st.lists(
        st.tuples(st.from_regex("[a-z][0-9a-f]{16}", fullmatch=True), st.from_regex("[0-9a-f]{0,16}", fullmatch=True)),
        max_size=5,
    ).map(tuple),
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

    assert reason_of(KEY, _forge(orjson.dumps(header))) == "field"


@given(st.integers(0, 10))
def test_any_field_of_a_wrong_type_is_corrupt(index):
    assert reason_of(KEY, _forge(orjson.dumps(_with_field(index, {})))) == "header"


BREAK = "image/png\r\nSet-Cookie: a=b"
# Values of the right type that no server writes, by the name of their field.
IMPLAUSIBLE = {
    "media_type": [BREAK, "image/png\n", "", "image", "image/png; a=\r\n", "image/" + "p" * 100, "imäge/png"],
    "etag": ["", 'a"b', "a\r\nb", "a b", "a" * 129],
    "width": [0, -1, 2**40],
    "height": [0, -1, 2**40],
    "orientation": [0, 9, -1],
    "frames": [0, -1, 2**40],
    "source_format": ["jp\ng", "p" * 33],
    "fingerprint": ["f" * 1025],
    "modified": [-(10**15), 10**15, 2**63, 253_402_300_800],
    "max_age_seconds": [-1, 2**60],
    "cache_policy": ["", "private", "no-store", "public", "a\r\nb"],
    "created": [-1, 1e15, 1e300, -1e300],
    "render_seconds": [-0.1, 1e6, 1e300],
    "fresh_until": [-1.0, 1e11, 1e300],
    "expires": [-1.0, 1e11, 1e300],
    "generations": [[["A", ""]], [["a b", ""]], [["a", "x" * 65]], [["a", "\n"]], [["s" + "0" * 17, ""]]],
}
NAMES = (
    *("key", "media_type", "etag", "width", "height", "orientation", "frames", "source_format", "fingerprint"),
    *("modified", "max_age_seconds", "cache_policy", "created", "render_seconds", "fresh_until", "expires"),
    "generations",
)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in IMPLAUSIBLE.items() for value in values])
def test_a_whole_record_with_an_implausible_field_is_corrupt(name, value):
    forged = _forge(orjson.dumps(_with_field(NAMES.index(name), value)))

    assert reason_of(KEY, forged) == "field"
    with pytest.raises(Corrupt):
        peek(forged)


def test_the_implausible_values_cover_every_field():
    assert set(NAMES) == {"key", *IMPLAUSIBLE}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["created", "render_seconds", "fresh_until", "expires"])
def test_a_number_that_is_not_finite_is_neither_written_nor_read(name, value):
    with pytest.raises(ValueError, match="record"):
        encode(KEY, make_rendition(**{name: value}))
    text = orjson.dumps(_with_field(NAMES.index(name), "?")).replace(b'"?"', str(value).encode())
    assert reason_of(KEY, _forge(text)) == "header"


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
        {"media_type": BREAK},
        {"modified": 10**15},
        {"max_age_seconds": -1},
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
