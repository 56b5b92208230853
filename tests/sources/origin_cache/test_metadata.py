"""What stands beside a kept original is read as it was written, or not at all."""

from hypothesis import given
from hypothesis import strategies as st

from imgserver.plan.rendition import CachePolicy
from imgserver.sources.origin import Validators
from imgserver.sources.origin_cache.metadata import OriginMetadata, StoredBody, decode, encode

TEXT = st.text(max_size=40)
LENGTHS = st.none() | st.integers(0, 2**50)
FACTS = st.builds(
    OriginMetadata,
    key=TEXT,
    validators=st.builds(Validators, etag=st.none() | TEXT, modified=LENGTHS, size_bytes=LENGTHS),
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
