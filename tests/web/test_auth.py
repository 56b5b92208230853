from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from imgserver.errors import Forbidden, QuotaExceeded, Unauthorized
from imgserver.security.api_keys import ApiKeys, ApiKeySettings, digest_of, new_key
from imgserver.web.auth import (
    MAX_FAILURES,
    MAX_PAIR_CHARACTERS,
    MAX_PAIRS,
    WINDOW_SECONDS,
    Authenticator,
    FailureCounts,
)

KEY = new_key("ci")
KEYS = ApiKeys({"ci": ApiKeySettings("upload", digest_of(KEY))})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class AuditFake(list):
    """Collects (event, reason, facts)."""

    def __call__(self, event: str, *, reason: str, **facts: object) -> None:
        self.append((event, reason, facts))


def request_with(key: str | None, address: str = "192.0.2.1", **headers: str):
    fields = {**headers, **({"Authorization": f"Bearer {key}"} if key else {})}
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (address, 1) if name == "peername" else default
    return make_mocked_request("POST", "/", headers=fields, transport=transport)


@pytest.fixture
def audit() -> AuditFake:
    return AuditFake()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(audit, clock) -> Authenticator:
    return Authenticator(KEYS, audit, FailureCounts(clock))


def send_wrong_keys(
    authenticator: Authenticator, times: int, address: str = "192.0.2.1", *, key: str = "ci.wrong"
) -> None:
    for _ in range(times):
        with pytest.raises(Unauthorized):
            authenticator.require(request_with(key, address), "upload", route="optimize")


def is_slowed(authenticator: Authenticator, key: str, address: str = "192.0.2.1") -> bool:
    with pytest.raises((Unauthorized, QuotaExceeded)) as caught:
        authenticator.require(request_with(key, address), "upload", route="optimize")
    return isinstance(caught.value, QuotaExceeded)


def test_a_valid_key_is_returned_by_its_id_and_not_audited(authenticator, audit):
    assert authenticator.require(request_with(KEY), "upload", route="optimize") == "ci"
    assert audit == []


def test_every_refusal_is_audited_with_its_reason_and_never_with_the_key(authenticator, audit):
    for request, scope, kind in (
        (request_with(None), "upload", Unauthorized),
        (request_with("wrong"), "upload", Unauthorized),
        (request_with(KEY), "purge", Forbidden),
    ):
        with pytest.raises(kind):
            authenticator.require(request, scope, route="optimize")

    assert [(event, reason) for event, reason, _ in audit] == [
        ("auth_failed", "no_key"),
        ("auth_failed", "unknown_key"),
        ("auth_failed", "missing_scope"),
    ]
    assert KEY not in str(audit)
    assert "wrong" not in str(audit)


def test_after_ten_wrong_keys_of_one_id_further_ones_are_429_for_the_rest_of_the_minute(authenticator, clock, audit):
    send_wrong_keys(authenticator, MAX_FAILURES)
    clock.now += WINDOW_SECONDS - 1

    with pytest.raises(QuotaExceeded) as caught:
        authenticator.require(request_with("ci.another"), "upload", route="optimize")

    assert caught.value.facts["retry_after"] == 1
    assert audit[-1][:2] == ("auth_failed", "too_many")
    clock.now += 1
    assert not is_slowed(authenticator, "ci.wrong")


@pytest.mark.parametrize("wrong", ["ci.wrong", "wrong", "Basic credentials", "CI.wrong"])
def test_a_valid_key_is_never_refused_for_the_wrong_keys_of_its_address(authenticator, wrong):
    send_wrong_keys(authenticator, MAX_FAILURES, key=wrong)
    assert is_slowed(authenticator, wrong)

    assert authenticator.require(request_with(KEY), "upload", route="optimize") == "ci"
    with pytest.raises(Forbidden):
        authenticator.require(request_with(KEY), "purge", route="purge")
    assert is_slowed(authenticator, wrong)


def test_wrong_keys_of_another_id_or_address_are_not_slowed(authenticator):
    send_wrong_keys(authenticator, MAX_FAILURES)

    assert not is_slowed(authenticator, "deploy.wrong")
    assert not is_slowed(authenticator, "ci.wrong", "192.0.2.2")
    assert is_slowed(authenticator, "ci.wrong")


def test_keys_without_a_wellformed_id_count_together(authenticator):
    for number in range(MAX_FAILURES):
        send_wrong_keys(authenticator, 1, key=f"{number}.wrong")

    assert is_slowed(authenticator, "X.wrong")
    assert is_slowed(authenticator, "x" * 900)


def test_a_missing_key_is_not_counted_as_a_wrong_key(authenticator):
    for _ in range(30):
        with pytest.raises(Unauthorized):
            authenticator.require(request_with(None), "upload", route="optimize")

    assert not is_slowed(authenticator, "wrong")


def test_the_addresses_of_an_ipv6_network_count_together(authenticator):
    for number in range(MAX_FAILURES):
        send_wrong_keys(authenticator, 1, f"2001:db8:0:1::{number}")

    assert is_slowed(authenticator, "ci.wrong", "2001:db8:0:1:ffff::1")
    assert not is_slowed(authenticator, "ci.wrong", "2001:db8:0:2::1")


def test_the_failure_counts_are_bounded_in_bytes(clock):
    failures = FailureCounts(clock)
    for number in range(10_000):
        failures.add(f"{number}" + "x" * 1000, "y" * 1000)

    assert len(failures) == MAX_PAIRS
    assert max(len(pair) for pair, _ in failures._windows._entries.items()) == MAX_PAIR_CHARACTERS


def test_the_key_is_compared_with_every_digest_also_when_its_client_is_slowed(authenticator, monkeypatch):
    compared = []
    monkeypatch.setattr("imgserver.security.api_keys.hmac.compare_digest", lambda a, b: compared.append(b) or a == b)
    send_wrong_keys(authenticator, MAX_FAILURES)
    compared.clear()

    assert is_slowed(authenticator, "ci.wrong")
    assert compared == [digest_of(KEY)]
