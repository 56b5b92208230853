"""What stands beside a kept original is read as it was written, or not at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.plan.rendition import CachePolicy
from imgserver.sources.origin import Validators
from imgserver.sources.origin_cache.metadata import (
    CHECKSUM_LENGTH,
    OriginMetadata,
    StoredBody,
    _checksum,
    decode,
    encode,
)

TEXT = st.text(max_size=40)
ETAG = st.text(st.characters(exclude_categories=["Cc"]), max_size=40)
LENGTHS = st.none() | st.integers(0, 2**50)
FACTS = st.builds(
    OriginMetadata,
    key=TEXT,
    validators=st.builds(
        Validators, etag=st.none() | ETAG, modified=st.none() | st.integers(0, 2**37), size_bytes=LENGTHS
    ),
    max_age_seconds=st.none() | st.integers(0, 2**31),
    cache_policy=st.sampled_from(CachePolicy),
    complete=st.booleans(),
    validated=st.floats(0, 2**40),
    body=st.builds(
        StoredBody, digest=st.text("0123456789abcdef", min_size=64, max_size=64), length=st.integers(0, 2**50)
    ),
)
WRITTEN = encode(OriginMetadata("a/b.jpg", Validators('"x"', 12, 34), 60, 1000.5, StoredBody("0" * 64, 34)))


@given(FACTS)
def test_encoded_metadata_is_decoded(facts: OriginMetadata) -> None:
    assert decode(encode(facts)) == facts


@given(st.binary(max_size=300))
def test_random_bytes_are_not_metadata(data: bytes) -> None:
    assert decode(data) is None


@given(st.integers(0, len(WRITTEN) * 8 - 1))
def test_a_flipped_bit_is_detected(bit: int) -> None:
    flipped = bytearray(WRITTEN)
    flipped[bit // 8] ^= 1 << bit % 8

    assert decode(bytes(flipped)) is None


@given(st.integers(0, len(WRITTEN) - 1))
def test_a_truncated_file_is_detected(length: int) -> None:
    assert decode(WRITTEN[:length]) is None


FIELDS = json.loads(WRITTEN[CHECKSUM_LENGTH:])
# By the index of the field.
IMPLAUSIBLE = {
    1: [None, 3],
    2: ['"x"\r\nHost: b', "\x00", 3, []],
    3: [1.5, 10**15, -(10**15), "12", True],
    4: [-1, 2**60, "34", 1.5],
    5: [-1, 2**60, "60"],
    6: [None, "1", -1.0, 1e300, float("nan"), float("inf"), True],
    7: [None, "0" * 63, "../../etc/passwd".rjust(64, "0"), "G" * 64],
    8: [-1, 2**60, None, 1.5],
    9: [None, "", "public", 3],
    10: [None, 1, "true"],
}


def forged(fields: object) -> bytes:
    text = json.dumps(fields).encode()
    return _checksum(text) + text


@pytest.mark.parametrize(("index", "value"), [(index, value) for index in IMPLAUSIBLE for value in IMPLAUSIBLE[index]])
def test_whole_metadata_with_an_implausible_field_is_not_metadata(index: int, value: object) -> None:
    assert decode(forged(FIELDS)) is not None
    assert decode(forged([*FIELDS[:index], value, *FIELDS[index + 1 :]])) is None


def test_the_implausible_values_cover_every_field() -> None:
    assert set(IMPLAUSIBLE) == set(range(1, len(FIELDS)))


@pytest.mark.parametrize("fields", [{}, [], None, 3, FIELDS[:-1], [*FIELDS, 1], "text"])
def test_other_json_is_not_metadata(fields: object) -> None:
    assert decode(forged(fields)) is None
    assert decode(_checksum(b"[1,") + b"[1,") is None
