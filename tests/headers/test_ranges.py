import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.headers.ranges import ByteRange, if_range_matches, parse_range


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-9", ByteRange(0, 10)),
        ("bytes=90-", ByteRange(90, 100)),
        ("bytes=-10", ByteRange(90, 100)),
        ("bytes=-1000", ByteRange(0, 100)),
        ("bytes=50-1000", ByteRange(50, 100)),
        ("bytes= 1-2 ", ByteRange(1, 3)),
        ("bytes=9-5", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("items=0-1", None),
        ("", None),
        (None, None),
    ],
)
def test_a_range_is_parsed_by_rfc_9110(field, expected):
    assert parse_range(field, 100) == expected


@pytest.mark.parametrize("field", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_outside_the_body_is_empty(field):
    span = parse_range(field, 100)

    assert span is not None
    assert span.is_empty
    assert span.content_range(100) == "bytes */100"


@given(st.text(), st.integers(1, 1000))
def test_any_text_gives_a_range_inside_the_body_or_none(field, length):
    for text in (field, "bytes=" + field):
        span = parse_range(text, length)
        assert span is None or span.is_empty or 0 <= span.start < span.stop <= length


@given(st.binary(min_size=1, max_size=300), st.integers(1, 50))
def test_adjacent_ranges_make_up_the_whole_body(body, step):
    spans = [parse_range(f"bytes={at}-{at + step - 1}", len(body)) for at in range(0, len(body), step)]

    assert b"".join(body[span.start : span.stop] for span in spans if span) == body


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [(None, True), ('"abc"', True), ('W/"abc"', False), ('"old"', False), ("Mon, 23 Nov 2026 00:00:00 GMT", False)],
)
def test_if_range_needs_the_same_strong_etag(if_range, expected):
    assert if_range_matches(if_range, "abc") is expected
