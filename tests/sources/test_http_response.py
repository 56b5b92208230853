"""The validators and freshness lifetimes that servers state."""

import time

import pytest
from multidict import CIMultiDict

from imgserver.headers.caching import http_date
from imgserver.sources.http_response import cache_policy, conditions, max_age_seconds, response_of
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
        ({"cache-control": "private, max-age=60"}, 60),
        ({"cache-control": "private"}, 0),
        ({"cache-control": "must-revalidate"}, None),
        ({"cache-control": "max-age=60, must-revalidate"}, 60),
        ({"cache-control": "max-age=60", "vary": "Accept, Origin"}, 60),
        ({"cache-control": "max-age=60", "vary": "*"}, 0),
        ({"cache-control": "max-age=60", "pragma": "no-cache"}, 60),
        ({"pragma": "no-cache"}, 0),
        ({"pragma": "x"}, None),
        ({"expires": "Mon, 02 Jan 2023 00:00:00 GMT"}, 0),
        ({"cache-control": 'no-cache="set-cookie", max-age=60'}, 0),
        ({"cache-control": "public"}, None),
        ({"cache-control": "max-age=-1"}, 0),
        ({"cache-control": "max-age=1e9"}, 0),
        ({"cache-control": "max-age=٣"}, 0),
        ({"cache-control": "max-age=9999999999"}, 1 << 31),
        ({"cache-control": "s-maxage=600"}, None),
        ({"cache-control": "s-maxage=600, max-age=60"}, 60),
        ({"cache-control": "s-maxage=5"}, 5),
        ({"cache-control": "s-maxage=5, max-age=60"}, 5),
        ({"cache-control": "s-maxage=0, max-age=60"}, 0),
        ({"cache-control": "x-no-store=1, max-age=60"}, 60),
        ({"expires": LATER, "date": DATE}, 100),
        ({"expires": LATER, "date": DATE, "age": "30"}, 70),
        ({"expires": DATE, "date": LATER}, 0),
        ({"expires": "0", "date": DATE}, 0),
        ({"expires": LATER, "date": DATE, "cache-control": "max-age=5"}, 5),
    ],
)
def test_the_freshness_lifetime_of_a_response(fields: dict[str, str], expected: int | None) -> None:
    assert max_age_seconds(CIMultiDict(fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "shared"),
        ({"cache-control": "public, max-age=60"}, "shared"),
        ({"cache-control": "max-age=0"}, "shared"),
        ({"cache-control": "max-age=60, must-revalidate"}, "must-revalidate"),
        ({"cache-control": "proxy-revalidate"}, "must-revalidate"),
        ({"cache-control": "no-cache"}, "must-revalidate"),
        ({"pragma": "no-cache"}, "must-revalidate"),
        ({"pragma": "no-cache", "cache-control": "max-age=60"}, "shared"),
        ({"vary": "*"}, "must-revalidate"),
        ({"cache-control": "PRIVATE"}, "private"),
        ({"cache-control": "private, no-cache"}, "private"),
        ({"cache-control": "public, private"}, "private"),
        ({"cache-control": "no-store, private, max-age=60"}, "no-store"),
        ({"cache-control": 'extension="no-store"'}, "shared"),
        ({"x-cache-control": "private"}, "shared"),
    ],
)
def test_the_cache_policy_of_a_response(fields: dict[str, str], expected: str) -> None:
    assert cache_policy(CIMultiDict(fields)) == expected


def test_cache_control_in_several_lines_is_one_list() -> None:
    headers = CIMultiDict([("cache-control", "max-age=60"), ("cache-control", "private")])

    assert (cache_policy(headers), max_age_seconds(headers)) == ("private", 60)


def test_expires_without_a_date_is_measured_by_the_clock_of_this_server() -> None:
    assert 90 <= max_age_seconds(CIMultiDict({"expires": http_date(int(time.time()) + 100)})) <= 100


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
