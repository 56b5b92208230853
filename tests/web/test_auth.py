from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from imgserver.errors import Forbidden, QuotaExceeded, Unauthorized
from imgserver.security.api_keys import ApiKeys, ApiKeySettings, digest_of, new_key
from imgserver.web.auth import MAX_FAILURES, WINDOW_SECONDS, Authenticator, FailureCounts
from imgserver.web.local_client import is_local_client

KEY = new_key("ci")
KEYS = ApiKeys({"ci": ApiKeySettings("upload", digest_of(KEY))})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Heard(list):
    def __call__(self, event: str, *, reason: str, **facts: object) -> None:
        self.append((event, reason, facts))


def ask(key: str | None, address: str = "192.0.2.1", **headers: str):
    fields = {**headers, **({"Authorization": f"Bearer {key}"} if key else {})}
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (address, 1) if name == "peername" else default
    return make_mocked_request("POST", "/", headers=fields, transport=transport)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(heard, clock) -> Authenticator:
    return Authenticator(KEYS, heard, FailureCounts(clock))


def fail(authenticator: Authenticator, times: int, address: str = "192.0.2.1") -> None:
    for _ in range(times):
        with pytest.raises(Unauthorized):
            authenticator.require(ask("wrong", address), "upload", route="optimize")


def test_a_good_key_is_told_by_its_id_and_not_audited(authenticator, heard):
    assert authenticator.require(ask(KEY), "upload", route="optimize") == "ci"
    assert heard == []


def test_every_refusal_is_audited_with_its_reason_and_never_with_the_key(authenticator, heard):
    for request, scope, kind in (
        (ask(None), "upload", Unauthorized),
        (ask("wrong"), "upload", Unauthorized),
        (ask(KEY), "purge", Forbidden),
    ):
        with pytest.raises(kind):
            authenticator.require(request, scope, route="optimize")

    assert [(event, reason) for event, reason, _ in heard] == [
        ("auth_failed", "no_key"),
        ("auth_failed", "unknown_key"),
        ("auth_failed", "missing_scope"),
    ]
    assert KEY not in str(heard)
    assert "wrong" not in str(heard)


def test_after_ten_wrong_keys_an_address_is_refused_for_the_rest_of_the_minute(authenticator, clock, heard):
    fail(authenticator, MAX_FAILURES)
    clock.now += WINDOW_SECONDS - 1

    with pytest.raises(QuotaExceeded) as caught:
        authenticator.require(ask(KEY), "upload", route="optimize")

    assert caught.value.facts["retry_after"] == 1
    assert heard[-1][:2] == ("auth_failed", "too_many")
    clock.now += 1
    assert authenticator.require(ask(KEY), "upload", route="optimize") == "ci"


def test_others_are_not_refused_for_it(authenticator):
    fail(authenticator, MAX_FAILURES)

    assert authenticator.require(ask(KEY, "192.0.2.2"), "upload", route="optimize") == "ci"


def test_one_short_of_ten_is_allowed_and_a_missing_key_is_no_guess(authenticator):
    fail(authenticator, MAX_FAILURES - 1)
    for _ in range(30):
        with pytest.raises(Unauthorized):
            authenticator.require(ask(None), "upload", route="optimize")

    assert authenticator.require(ask(KEY), "upload", route="optimize") == "ci"


def test_an_ipv6_client_is_its_network(authenticator):
    for number in range(MAX_FAILURES):
        fail(authenticator, 1, f"2001:db8:0:1::{number}")

    with pytest.raises(QuotaExceeded):
        authenticator.require(ask(KEY, "2001:db8:0:1:ffff::1"), "upload", route="optimize")
    assert authenticator.require(ask(KEY, "2001:db8:0:2::1"), "upload", route="optimize") == "ci"


def test_the_table_of_failures_is_bounded(clock):
    failures = FailureCounts(clock)
    for number in range(10_000):
        failures.add(str(number))

    assert len(failures._counts) == 4096


@pytest.mark.parametrize(
    ("address", "headers", "here"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("192.0.2.1", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, False),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.1"}, False),
        ("127.0.0.1", {"Via": "1.1 proxy"}, False),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}, False),
        ("127.0.0.1", {"Sec-Fetch-Site": "same-origin"}, True),
        ("127.0.0.1", {"X-Real-IP": "192.0.2.1"}, False),
        ("127.0.0.1", {"Host": "localhost:8080"}, True),
        ("127.0.0.1", {"Host": "127.0.0.1"}, True),
        ("127.0.0.1", {"Host": "[::1]:8080"}, True),
        ("127.0.0.1", {"Host": "imgserver:8080"}, True),
        ("127.0.0.1", {"Host": "pictures.localhost"}, True),
        ("127.0.0.1", {"Host": "evil.example:8080"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1.evil.example"}, False),
        ("127.0.0.1", {"Host": "localhost.evil.example"}, False),
        ("127.0.0.1", {"Host": "localhost."}, False),
    ],
)
def test_this_machine_is_nobody_who_comes_through_it(address, headers, here):
    assert is_local_client(ask(None, address, **headers)) is here
