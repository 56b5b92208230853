"""No request leads to a forbidden address: by a literal, by a name, by a redirect, or by a name whose DNS answer
changes.

The listener on loopback, at 127.0.0.1 and ::1, must see no connection. Nothing listens at the other forbidden
addresses: for them no socket may be created.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from imgserver.errors import ImgserverError, NotFound, SourceDenied, SourceFailed
from imgserver.security.remote_url import parse
from imgserver.sources import http, http_session
from imgserver.sources.config import FetchSettings
from imgserver.sources.http import HttpOrigin
from imgserver.sources.url_mapping import BaseUrlMapping, HttpOriginSettings, RemoteUrlMapping
from tests.security.test_ssrf import REFUSED_4, REFUSED_6, WRAPPINGS, samples
from tests.sources.origin_server import OriginServer, ScriptedResolver, body, origin_server, redirect

TWO = "127.0.0.2"  # stands for a public address: the policy of these tests allows it


class Events:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.facts: list[dict[str, object]] = []

    def __call__(self, event: str, *, reason: str, **facts: object) -> None:
        self.seen.append((event, reason))
        self.facts.append(facts)


@pytest.fixture
async def listener() -> AsyncIterator[OriginServer]:
    async with origin_server("127.0.0.1", "::1") as running:
        running.answers["/a.jpg"] = body(b"secret")
        yield running


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every socket that the origin creates."""
    made: list[object] = []

    def noted(*arguments: int) -> socket.socket:
        made.append(arguments)
        return socket.socket(*arguments)

    monkeypatch.setattr(http_session, "socket", SimpleNamespace(socket=noted, gaierror=socket.gaierror))
    return made


@asynccontextmanager
async def remote(events: Events, *addresses: str, resolver=None, **changes) -> AsyncIterator[HttpOrigin]:
    """An origin of whole URLs whose allow list has all of them, so that only the SSRF policy can refuse one."""
    allowed = tuple({f"{one.scheme}://{host(one.host)}:{one.port}/" for one in map(parse, addresses)})
    fetch = FetchSettings(max_attempts=changes.pop("max_attempts", FetchSettings().max_attempts))
    settings = HttpOriginSettings(**{"allowed": allowed, **changes}, fetch=fetch)
    origin = HttpOrigin("remote:", settings, RemoteUrlMapping(settings, audit=events), audit=events, resolver=resolver)
    try:
        yield origin
    finally:
        await origin.close()


def host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def refusal(origin: HttpOrigin, address: str) -> ImgserverError:
    async def sink(chunk: bytes) -> None:
        raise AssertionError(chunk)

    with pytest.raises(ImgserverError) as caught:
        await origin.fetch(address, sink)
    with pytest.raises(type(caught.value)):
        await origin.stat(address)
    return caught.value


REFUSED = [
    (kind, wrapping, WRAPPINGS[wrapping](IPv4Address(address).packed))
    for kind, cidrs in REFUSED_4.items()
    for wrapping in WRAPPINGS
    for address in ([samples(cidrs[0])[-1], "127.0.0.1"] if kind == "loopback" else [samples(cidrs[-1])[0]])
] + [(kind, "version 6", samples(cidrs[-1])[0]) for kind, cidrs in REFUSED_6.items()]
REFUSED_IDS = [f"{kind}, {wrapping}: {address}" for kind, wrapping, address in REFUSED]


@pytest.mark.parametrize(("kind", "wrapping", "address"), REFUSED, ids=REFUSED_IDS)
async def test_no_connection_to_a_forbidden_address_is_made(
    listener: OriginServer, events: Events, sockets: list[object], kind: str, wrapping: str, address: str
) -> None:
    literal = f"http://{host(address)}:{listener.port}/a.jpg"
    named = f"http://inside.example:{listener.port}/a.jpg"
    names = ScriptedResolver({"inside.example": [[address]]})
    async with remote(events, literal, named, resolver=names) as origin:
        by_literal, by_name = await refusal(origin, literal), await refusal(origin, named)

    expected = NotFound()
    assert [(type(one), one.detail, one.facts) for one in (by_literal, by_name)] == [
        (NotFound, expected.detail, {})
    ] * 2
    assert {event for event, _ in events.seen} == {"address_blocked"}
    assert len(events.seen) == 4
    assert (listener.connects, sockets) == (0, [])


@pytest.mark.parametrize(("kind", "wrapping", "address"), REFUSED, ids=REFUSED_IDS)
async def test_no_redirect_leads_to_a_forbidden_address(
    listener: OriginServer, events: Events, kind: str, wrapping: str, address: str
) -> None:
    """A listed target is refused by the SSRF policy, an unlisted one by the allow list."""
    target = f"http://{host(address)}:{listener.port}/a.jpg"
    async with origin_server(TWO) as outside:
        start = f"http://outside.example:{outside.port}/a.jpg"
        outside.answers["/a.jpg"] = redirect(target)
        names = ScriptedResolver({"outside.example": [[TWO]]})
        async with remote(events, start, target, resolver=names, networks=(TWO + "/32",)) as origin:
            assert type(await refusal(origin, start)) is NotFound
        async with remote(events, start, resolver=names, networks=(TWO + "/32",)) as origin:
            assert type(await refusal(origin, start)) is SourceDenied

    assert len(outside.requests) == 4
    assert [event for event, _ in events.seen] == ["address_blocked"] * 2 + ["redirect_denied"] * 2
    assert listener.connects == 0


@pytest.mark.parametrize(
    "address",
    ["localhost", "LOCALHOST", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "127.0.0.1."],
)
async def test_loopback_is_not_reached_by_any_of_its_names(
    listener: OriginServer, events: Events, address: str
) -> None:
    """With the resolver of the system."""
    target = f"http://{address}:{listener.port}/a.jpg"
    async with remote(events, target) as origin:
        assert type(await refusal(origin, target)) is NotFound

    assert listener.connects == 0


async def test_the_listener_counts_connections(listener: OriginServer, events: Events) -> None:
    """Shows that the tests above can fail."""
    seen = bytearray()

    async def sink(chunk: bytes) -> None:
        seen.extend(chunk)

    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        target = f"http://{host(address)}:{listener.port}/a.jpg"
        async with remote(events, target, networks=("127.0.0.0/8", "::1/128")) as origin:
            await origin.fetch(target, sink)

    assert (bytes(seen), listener.connects, events.seen) == (b"secret" * 3, 3, [])


async def test_a_changed_dns_answer_is_checked_for_each_request(listener: OriginServer, events: Events) -> None:
    target = f"http://rebinding.example:{listener.port}/a.jpg"
    names = ScriptedResolver({"rebinding.example": [[TWO], ["127.0.0.1"]]})
    async with remote(events, target, resolver=names, networks=(TWO + "/32",), max_attempts=1) as origin:
        assert type(await refusal_once(origin, target)) is SourceFailed  # allowed, but nobody listens there
        origin._session.connector.clear_dns_cache()
        assert type(await refusal_once(origin, target)) is NotFound

    assert names.lookups == ["rebinding.example"] * 2
    assert (listener.connects, events.seen) == (0, [("address_blocked", "loopback")])


async def test_a_changed_dns_answer_is_checked_for_each_attempt(
    listener: OriginServer, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "WAIT_SECONDS", 0.001)
    target = f"http://rebinding.example:{listener.port}/a.jpg"
    flaky = socket.gaierror(socket.EAI_AGAIN, "later")
    names = ScriptedResolver({"rebinding.example": [flaky, ["127.0.0.1"]]})
    async with remote(events, target, resolver=names) as origin:
        assert type(await refusal_once(origin, target)) is NotFound

    assert names.lookups == ["rebinding.example"] * 2
    assert (listener.connects, events.seen) == (0, [("address_blocked", "loopback")])


@pytest.mark.parametrize("answer", [["127.0.0.1", "::1", TWO], [TWO, "127.0.0.1", "::1"], ["::1", TWO, "10.0.0.1"]])
async def test_only_the_public_addresses_of_a_name_are_connected_to(
    listener: OriginServer, events: Events, sockets: list[object], answer: list[str]
) -> None:
    target = f"http://mixed.example:{listener.port}/a.jpg"
    names = ScriptedResolver({"mixed.example": [answer]})
    async with remote(events, target, resolver=names, networks=(TWO + "/32",), max_attempts=1) as origin:
        assert type(await refusal(origin, target)) is SourceFailed  # allowed, but nobody listens there

    assert (listener.connects, len(sockets)) == (0, 2)


async def test_the_check_at_the_socket_does_not_trust_the_resolver(
    listener: OriginServer, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_session, "PublicResolver", lambda names, _: names)
    target = f"http://inside.example:{listener.port}/a.jpg"
    names = ScriptedResolver({"inside.example": [["::1", "127.0.0.1", "10.0.0.1", "::ffff:127.0.0.1"]]})
    async with remote(events, target, resolver=names) as origin:
        assert type(await refusal_once(origin, target)) is NotFound

    assert [event for event, _ in events.seen] == ["address_blocked"]
    assert listener.connects == 0


async def test_a_name_with_only_forbidden_addresses_is_audited_once(listener: OriginServer, events: Events) -> None:
    target = f"http://inside.example:{listener.port}/a.jpg"
    names = ScriptedResolver({"inside.example": [["::1", "127.0.0.1", "10.0.0.1", "fd00::1"]]})
    async with remote(events, target, resolver=names) as origin:
        assert type(await refusal_once(origin, target)) is NotFound

    assert [event for event, _ in events.seen] == ["address_blocked"]
    assert listener.connects == 0


async def test_absent_unresolvable_and_blocked_have_the_same_error(listener: OriginServer, events: Events) -> None:
    absent = f"http://127.0.0.1:{listener.port}/absent.jpg"
    unresolvable = "http://unknown.example/a.jpg"
    blocked = f"http://[::1]:{listener.port}/a.jpg"
    async with remote(
        events, absent, unresolvable, blocked, resolver=ScriptedResolver({}), networks=("127.0.0.1/32",)
    ) as origin:
        errors = [await refusal_once(origin, address) for address in (absent, unresolvable, blocked)]

    assert {(type(one), one.detail, tuple(one.facts)) for one in errors} == {(NotFound, NotFound().detail, ())}


@pytest.mark.parametrize("fault", [socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM, None])
async def test_a_failing_resolver_does_not_mean_not_found(events: Events, fault: int | None) -> None:
    names = ScriptedResolver({"a.example": [socket.gaierror(fault, "later")]})
    async with remote(events, "http://a.example/", resolver=names, max_attempts=1) as origin:
        assert type(await refusal_once(origin, "http://a.example/")) is SourceFailed


@pytest.mark.parametrize("fault", [socket.EAI_NONAME, socket.EAI_NODATA])
async def test_the_host_of_a_configured_source_is_never_absent(events: Events, fault: int) -> None:
    """A client that names a host learns nothing about internal names; the settings name this one."""
    settings = HttpOriginSettings(base="http://a.example/", fetch=FetchSettings(max_attempts=1))
    names = ScriptedResolver({"a.example": [socket.gaierror(fault, "no name")]})
    origin = HttpOrigin("shop", settings, BaseUrlMapping(settings), audit=events, resolver=names)

    assert type(await refusal_once(origin, "a.jpg")) is SourceFailed
    await origin.close()


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "not_listed"),
        ("//169.254.169.254/latest/", "not_listed"),
        ("http://127.0.0.1:6379/", "not_listed"),
        ("/outside/a.jpg", "not_listed"),
        ("../outside/a.jpg", "not_listed"),
        ("http://user@127.0.0.1/", "malformed"),
        ("file:///etc/passwd", "malformed"),
        ("ftp://127.0.0.1/a", "malformed"),
        ("http://2130706433/", "malformed"),
        ("http://[::1", "malformed"),
        ("/inside/%2e%2e/outside", "malformed"),
        ("/inside/..%5Coutside", "malformed"),
        ("http:\\\\127.0.0.1\\", "malformed"),
        ("/inside/\xe9.jpg\x85", "malformed"),
    ],
)
async def test_a_redirect_to_an_unlisted_url_is_denied_and_audited(
    listener: OriginServer, events: Events, location: str, reason: str
) -> None:
    start = f"http://127.0.0.1:{listener.port}/inside/a.jpg"
    listener.answers["/inside/a.jpg"] = redirect(location)
    listener.answers["/outside/a.jpg"] = body(b"secret")
    allowed = (f"http://127.0.0.1:{listener.port}/inside/",)
    async with remote(events, allowed=allowed, networks=("127.0.0.1/32",)) as origin:
        assert type(await refusal_once(origin, start)) is SourceDenied

    assert events.seen == [("redirect_denied", reason)]
    assert len(listener.requests) == 1


async def test_an_unlisted_host_is_not_resolved(listener: OriginServer, events: Events) -> None:
    names = ScriptedResolver({"other.example": [["127.0.0.1"]]})
    async with remote(events, "http://listed.example/", resolver=names) as origin:
        assert type(await refusal(origin, f"http://other.example:{listener.port}/a.jpg")) is SourceDenied

    assert (names.lookups, listener.connects) == ([], 0)
    assert events.seen == [("source_denied", "not_listed")] * 2


async def test_a_configured_source_is_checked_like_a_whole_url(listener: OriginServer, events: Events) -> None:
    settings = HttpOriginSettings(base=f"http://localhost:{listener.port}/")
    origin = HttpOrigin("shop", settings, BaseUrlMapping(settings), audit=events)
    assert type(await refusal_once(origin, "a.jpg")) is NotFound
    await origin.close()

    assert (listener.connects, events.seen) == (0, [("address_blocked", "loopback")])
    assert events.facts == [{"source": "shop", "host": "localhost"}]


async def test_a_proxy_of_the_environment_is_not_used(
    listener: OriginServer, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")
    names = ScriptedResolver({"a.example": [["10.0.0.1"]]})
    async with remote(events, "http://a.example/", resolver=names, networks=("127.0.0.1/32",)) as origin:
        assert type(await refusal_once(origin, "http://a.example/")) is NotFound

    assert listener.connects == 0


async def refusal_once(origin: HttpOrigin, address: str) -> ImgserverError:
    async def sink(chunk: bytes) -> None:
        raise AssertionError(chunk)

    with pytest.raises(ImgserverError) as caught:
        await origin.fetch(address, sink)
    return caught.value
