"""The validators and freshness lifetimes that servers state."""

import pytest
from multidict import CIMultiDict

from imgserver.sources.http_response import conditions, max_age_seconds, response_of
from imgserver.sources.origin import OriginResponse, Validators

DATE = "Tue, 24 Nov 2026 06:00:00 GMT"
LATER = "Tue, 24 Nov 2026 06:01:40 GMT"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"cache-control": "max-age=60"}, 60),
        ({"cache-control": "public, MAX-AGE = 60 , immutable"}, 60),
        ({"cache-control": 'max-age="60"'}, 60),
        ({"cache-control": "max-age=0"}, 0),
        ({"cache-control": "max-age=60", "age": "20"}, 40),
        ({"cache-control": "max-age=60", "age": "90"}, 0),
        ({"cache-control": "max-age=60", "age": "-5"}, 60),
        ({"cache-control": "max-age=60", "age": "soon"}, 60),
        ({"cache-control": "no-store, max-age=60"}, 0),
        ({"cache-control": "No-Cache"}, 0),
        ({"cache-control": "private, max-age=60"}, 0),
        ({"cache-control": 'no-cache="set-cookie", max-age=60'}, 0),
        ({"cache-control": "public"}, None),
        ({"cache-control": "max-age=-1"}, None),
        ({"cache-control": "max-age=1e9"}, None),
        ({"cache-control": "max-age=٣"}, None),
        ({"cache-control": "max-age=9999999999"}, 1 << 31),
        ({"cache-control": "s-maxage=600"}, None),
        ({"cache-control": "s-maxage=600, max-age=60"}, 60),
        ({"cache-control": "x-no-store=1, max-age=60"}, 60),
        ({"expires": LATER, "date": DATE}, 100),
        ({"expires": LATER, "date": DATE, "age": "30"}, 70),
        ({"expires": DATE, "date": LATER}, 0),
        ({"expires": "0", "date": DATE}, 0),
        ({"expires": LATER}, None),
        ({"expires": LATER, "date": DATE, "cache-control": "max-age=5"}, 5),
    ],
)
def test_the_freshness_lifetime_of_a_response(fields: dict[str, str], expected: int | None) -> None:
    assert max_age_seconds(CIMultiDict(fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Validators()),
        ({"etag": '"abc"'}, Validators(etag='"abc"')),
        ({"etag": ' W/"abc" '}, Validators(etag='W/"abc"')),
        ({"etag": "abc"}, Validators()),
        ({"etag": '"a"b"'}, Validators()),
        ({"etag": '"ä"'}, Validators()),
        ({"etag": '"' + "a" * 300 + '"'}, Validators()),
        ({"last-modified": DATE}, Validators(modified=1_795_500_000)),
        ({"last-modified": "yesterday"}, Validators()),
        ({"last-modified": "Tue, 24 Nov 1926 06:00:00 GMT"}, Validators()),
        ({"last-modified": "Tue, 24 Nov 99999 06:00:00 GMT"}, Validators()),
        ({"content-length": "12"}, Validators(size_bytes=12)),
        ({"content-length": "-1"}, Validators()),
        ({"content-length": "1_0"}, Validators()),
        ({"content-length": "²"}, Validators()),
    ],
)
def test_the_validators_of_a_response(fields: dict[str, str], expected: Validators) -> None:
    assert response_of(CIMultiDict(fields)) == OriginResponse(expected)


def test_validators_become_the_conditions_of_a_request() -> None:
    known = Validators(etag='W/"abc"', modified=1_795_500_000, size_bytes=12)

    assert conditions(known) == {"If-None-Match": 'W/"abc"', "If-Modified-Since": DATE}
    assert conditions(Validators(size_bytes=12)) == {}
    assert conditions(None) == {}
