"""Which URL a path stands for, and to which URLs redirects may lead."""

import pytest

from imgserver.errors import NotFound, SourceDenied
from imgserver.security.remote_url import parse
from imgserver.sources import url_mapping
from imgserver.sources.url_mapping import BaseUrlMapping, HttpOriginSettings, RemoteUrlMapping

SHOP = BaseUrlMapping(
    HttpOriginSettings(
        base="https://cdn.example.com/assets",
        allowed=("https://files.example.com/",),
        headers=("Authorization: Bearer secret", "X-Two: a: b"),
    )
)
LISTED = "https://listed.example/public/a.jpg"
UNLISTED = "https://other.example/a.jpg"


class AuditedEvents:
    """An audit that records its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def __call__(self, event: str, *, reason: str, **facts: object) -> None:
        self.events.append((event, reason, str(facts["host"])))


@pytest.fixture
def audit() -> AuditedEvents:
    return AuditedEvents()


@pytest.fixture
def remote(audit: AuditedEvents) -> RemoteUrlMapping:
    return RemoteUrlMapping(HttpOriginSettings(allowed=("https://listed.example/public/",)), audit=audit)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("mugs/red.jpg", "https://cdn.example.com/assets/mugs/red.jpg"),
        ("a b/ä.jpg", "https://cdn.example.com/assets/a%20b/%C3%A4.jpg"),
        ("a?b#c%d;e+f.jpg", "https://cdn.example.com/assets/a%3Fb%23c%25d%3Be%2Bf.jpg"),
        ("a%2e%2e%2fb.jpg", "https://cdn.example.com/assets/a%252e%252e%252fb.jpg"),
        ("https://evil.example/a", "https://cdn.example.com/assets/https%3A//evil.example/a"),
        ("@evil.example/a", "https://cdn.example.com/assets/%40evil.example/a"),
        (".../a..b", "https://cdn.example.com/assets/.../a..b"),
    ],
)
def test_a_path_is_below_the_base_and_its_characters_stand_for_themselves(path: str, address: str) -> None:
    assert str(SHOP.address(path)) == address


@pytest.mark.parametrize(
    "path", ["../a", "a/../../b", "./a", "..", "..;x/a", "a\\b", "..\\a", "a\nb", "a\x00", "a\udce9"]
)
def test_no_path_leads_out_of_the_base(path: str) -> None:
    with pytest.raises(NotFound):
        SHOP.address(path)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("https://cdn.example.com/assets/b.jpg", True),
        ("https://files.example.com/b.jpg", True),
        ("https://cdn.example.com/secret/b.jpg", False),
        ("https://cdn.example.com:8443/assets/b.jpg", False),
        ("https://evil.example/assets/b.jpg", False),
    ],
)
def test_redirects_of_a_base_url_stay_below_it_or_on_the_allow_list(target: str, expected: bool) -> None:
    assert SHOP.allows_redirect(SHOP.address("a.jpg"), parse(target)) is expected


def test_secret_headers_are_for_urls_below_the_base_only() -> None:
    assert SHOP.fields(SHOP.address("a.jpg")) == {"Authorization": "Bearer secret", "X-Two": "a: b"}
    assert SHOP.fields(parse("https://files.example.com/a.jpg")) == {}
    assert SHOP.fields(parse("https://cdn.example.com/other/a.jpg")) == {}


def test_a_listed_url_needs_no_signature(remote: RemoteUrlMapping) -> None:
    remote.admit(LISTED, signed=False)
    remote.admit(LISTED, signed=True)

    assert str(remote.address(LISTED)) == LISTED


def test_an_unlisted_url_is_denied_and_audited(remote: RemoteUrlMapping, audit: AuditedEvents) -> None:
    with pytest.raises(SourceDenied):
        remote.admit(UNLISTED, signed=False)
    with pytest.raises(SourceDenied):
        remote.address(UNLISTED)

    assert audit.events == [("source_denied", "not_listed", "other.example")] * 2


def test_a_signed_request_admits_its_url_only(remote: RemoteUrlMapping) -> None:
    remote.admit(UNLISTED, signed=True)

    assert str(remote.address(UNLISTED)) == UNLISTED
    with pytest.raises(SourceDenied):
        remote.address(UNLISTED + "?id=5")


def test_an_unsigned_request_is_denied_after_a_signed_one(remote: RemoteUrlMapping) -> None:
    remote.admit(UNLISTED, signed=True)

    with pytest.raises(SourceDenied):
        remote.admit(UNLISTED, signed=False)


def test_a_signed_request_admits_only_default_ports(remote: RemoteUrlMapping, audit: AuditedEvents) -> None:
    remote.admit("http://other.example/", signed=True)
    remote.admit("https://other.example/", signed=True)
    with pytest.raises(SourceDenied):
        remote.admit("http://other.example:6379/", signed=True)

    assert audit.events == [("source_denied", "port", "other.example")]


def test_the_oldest_admitted_url_is_dropped_at_the_limit(audit: AuditedEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_mapping, "MAX_ADMITTED", 2)
    remote = RemoteUrlMapping(HttpOriginSettings(), audit=audit)
    for number in (1, 2, 1, 3):
        remote.admit(f"{UNLISTED}?{number}", signed=True)

    remote.address(f"{UNLISTED}?1")
    remote.address(f"{UNLISTED}?3")
    with pytest.raises(SourceDenied):
        remote.address(f"{UNLISTED}?2")


def test_a_malformed_url_is_not_found(remote: RemoteUrlMapping) -> None:
    with pytest.raises(NotFound):
        remote.admit("a.jpg", signed=True)
    with pytest.raises(NotFound):
        remote.address("https://user@listed.example/public/a.jpg")


@pytest.mark.parametrize(
    ("start", "target", "expected"),
    [
        (LISTED, "https://listed.example/public/b.jpg", True),
        (LISTED, "https://listed.example/secret/b.jpg", False),
        (LISTED, UNLISTED, False),
        (UNLISTED, LISTED, True),
        (UNLISTED, "https://other.example/b.jpg", True),
        (UNLISTED, "https://other.example:8443/b.jpg", False),
        ("http://other.example/a.jpg", "https://other.example/a.jpg", True),
        (UNLISTED, "https://third.example/a.jpg", False),
        (UNLISTED, "https://a.other.example/a.jpg", False),
    ],
)
def test_redirects_lead_to_the_allow_list_or_stay_on_the_signed_server(
    remote: RemoteUrlMapping, start: str, target: str, expected: bool
) -> None:
    assert remote.allows_redirect(parse(start), parse(target)) is expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": "cdn.example.com"},
        {"base": "https://*.example.com/"},
        {"base": "https://example.com/?key=secret"},
        {"base": "https://user:secret@example.com/"},
        {"allowed": ("example.com",)},
        {"networks": ("10.0.0.1/8",)},
        {"headers": ("Authorization: Bearer x",)},
        {"base": "https://example.com/", "headers": ("secret",)},
        {"base": "https://example.com/", "headers": ("X: secret\r\nY: z",)},
        {"base": "https://example.com/", "headers": ("X Y: secret",)},
        {"base": "https://example.com/", "headers": ("Host: secret",)},
        {"base": "https://example.com/", "headers": ("accept-encoding: secret",)},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError) as caught:
        HttpOriginSettings(**wrong)  # type: ignore[arg-type]

    if "headers" in wrong:
        assert "secret" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(HttpOriginSettings(base="https://example.com/", headers=("Authorization: secret",)))
