"""Remote URLs: equivalent URLs have one normal form, and ambiguous ones are refused."""

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgserver.dialects.native.source_path import SOURCE_NAME
from imgserver.errors import BadSourcePath
from imgserver.security.remote_url import REMOTE, RemoteUrl, is_remote_url, parse


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://example.com/a%20b.jpg", "https://example.com/a%20b.jpg"),
        ("https:/example.com/a.jpg", "https://example.com/a.jpg"),
        ("HTTPS://EXAMPLE.com/A.jpg", "https://example.com/A.jpg"),
        ("https://example.com:443/a.jpg", "https://example.com/a.jpg"),
        ("https://example.com:/a.jpg", "https://example.com/a.jpg"),
        ("http://example.com:080/a.jpg", "http://example.com/a.jpg"),
        ("http://example.com:443/a.jpg", "http://example.com:443/a.jpg"),
        ("http://example.com:8080", "http://example.com:8080/"),
        ("https://example.com./a.jpg", "https://example.com/a.jpg"),
        ("https://example.com?id=5", "https://example.com/?id=5"),
        ("https://example.com/a.jpg?", "https://example.com/a.jpg"),
        ("https://example.com/a.jpg?id=5&w=a?b/../c", "https://example.com/a.jpg?id=5&w=a?b/../c"),
        ("https://example.com/a b/ä.jpg?q=ü x", "https://example.com/a%20b/%C3%A4.jpg?q=%C3%BC%20x"),
        ("https://example.com/%7Ea/%2fb|[c]", "https://example.com/%7Ea/%2fb|[c]"),
        ("https://example.com/latin%E9.jpg", "https://example.com/latin%E9.jpg"),
        ("https://example.com//a//b", "https://example.com//a//b"),
        ("https://example.com/a..b/...c/.d", "https://example.com/a..b/...c/.d"),
        ("https://Bücher.example/a", "https://xn--bcher-kva.example/a"),
        ("https://xn--bcher-kva.example/a", "https://xn--bcher-kva.example/a"),
        ("https://ｅｘａｍｐｌｅ。com/a", "https://example.com/a"),
        ("https://my_bucket.example.com/a", "https://my_bucket.example.com/a"),
        ("http://192.0.2.1/a", "http://192.0.2.1/a"),
        ("http://１２７.0.0.1/a", "http://127.0.0.1/a"),
        ("http://[2001:DB8:0:0::1]:8080/a", "http://[2001:db8::1]:8080/a"),
        ("http://[::]/a", "http://[::]/a"),
    ],
)
def test_a_url_has_one_normal_form(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/a.jpg",
        "ftp://example.com/a",
        "file:///etc/passwd",
        "https:example.com/a",
        " https://example.com/a",
        "https://",
        "https:///example.com/a",
        "https:////example.com/a",
        "https://?a",
        "https://:80/a",
        "https://user@example.com/a",
        "https://user:password@example.com/a",
        "https://@example.com/a",
        "https://example.com@evil.example/a",
        "https://example.com:80:80/a",
        "https://example.com:80a/a",
        "https://example.com:٣/a",
        "https://example.com:0/a",
        "https://example.com:65536/a",
        "https://example.com:999999/a",
        "https://example.com/a#b",
        "https://example.com/a?b#",
        "https://example.com#@evil.example/",
        "https://example.com\\@evil.example/a",
        "https:\\\\example.com/a",
        "https://example.com/a\\b",
        "https://example.com/a%5Cb",
        "https://example.com/..%5c..%5cb",
        "https://exa\nmple.com/a",
        "https://example.com/a\r\nHost: x",
        "https://example.com/a\tb",
        "https://example.com/a\x00b",
        "https://example.com/a\x85b",
        "https://example.com/a\udce9",
        "https://example.com/a%00",
        "https://example.com/a%0d%0ab",
        "https://example.com/a?b=%0A",
        "https://example.com/100%",
        "https://example.com/a?b=100%",
        "https://example.com/a%zz",
        "https://example.com/../a",
        "https://example.com/a/..",
        "https://example.com/a/./b",
        "https://example.com/%2e%2e/a",
        "https://example.com/.%2E/a",
        "https://example.com/a%2F..%2fb",
        "https://example.com/a/..;x=1/b",
        "https://example..com/a",
        "https://.example.com/a",
        "https://example.com../a",
        "https://exa mple.com/a",
        "https://exa%6Dple.com/a",
        "https://example.com%2Fevil/a",
        "https://-example.com/a",
        "https://exa*mple.com/a",
        "https://℀.example/a",
        "https://" + "a" * 64 + ".com/a",
        "https://" + "a.b." * 64 + "com/a",
        "http://127.1/a",
        "http://2130706433/a",
        "http://0x7f000001/a",
        "http://0x7f.0.0.1/a",
        "http://127.0.0.0x1/a",
        "http://0177.0.0.1/a",
        "http://127.0.0.1.1/a",
        "http://256.0.0.1/a",
        "http://example.5/a",
        "http://[::1/a",
        "http://::1/a",
        "http://[::1]x/a",
        "http://[fe80::1%25eth0]/a",
        "http://[fe80::1%eth0]/a",
        "http://[127.0.0.1]/a",
        "http://[1.2.3.4::]/a",
    ],
)
def test_a_malformed_url_is_refused(text: str) -> None:
    with pytest.raises(BadSourcePath) as caught:
        parse(text)

    assert caught.value.detail.startswith("a remote URL ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("https:/a", True), ("HTTP://a", True), ("http:a", False), ("https", False), ("a/http://b", False)],
)  # fmt: skip
def test_a_remote_url_is_recognized_by_its_scheme(text: str, expected: bool) -> None:
    assert is_remote_url(text) is expected


def test_a_url_has_readable_parts() -> None:
    assert parse("https://[::1]:8443/a?b") == RemoteUrl("https", "::1", 8443, "/a", "b")


def test_no_configured_source_can_have_the_name_of_the_remote_source() -> None:
    assert SOURCE_NAME.fullmatch(REMOTE) is None


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for beginning in ("", "http://", "https://example.com/", "https://example.com:"):
        with suppress(BadSourcePath):
            assert str(parse(beginning + text)).isascii()


hosts = st.sampled_from(["example.com", "EXAMPLE.com.", "bücher.example", "127.0.0.1", "[::1]", "a.b-c.d_e.example"])
tails = st.text(max_size=20).map(lambda text: "/" + quote(text, safe="/?&=;~ä"))


@settings(max_examples=300)
@given(st.sampled_from(["http", "https", "HTTP"]), hosts, st.sampled_from(["", ":80", ":443", ":8080"]), tails)
def test_the_normal_form_is_its_own_normal_form(scheme: str, host: str, port: str, tail: str) -> None:
    try:
        address = parse(f"{scheme}://{host}{port}{tail}")
    except BadSourcePath:
        return

    assert parse(str(address)) == address
    assert parse(str(address).replace("://", ":/", 1)) == address
    assert str(address).isprintable() and " " not in str(address)
