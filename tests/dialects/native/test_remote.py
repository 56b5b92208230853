"""URLs of other hosts in targets: three forms, one source reference."""

from base64 import urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import BadSourcePath, ImgserverError, SourceDenied
from imgserver.plan.plan import SourceRef
from imgserver.security.remote_url import REMOTE, parse

DIALECT = NativeDialect(NativeSettings(), {"photos", "shop"}, "photos", remote=True)


def b64(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("tail", "url"),
    [
        ("w_400/https://example.com/a%20b.jpg", "https://example.com/a%20b.jpg"),
        ("w_400/https:/example.com/a%20b.jpg", "https://example.com/a%20b.jpg"),
        ("HTTPS://Example.com:443/a.jpg", "https://example.com/a.jpg"),
        ("http://example.com:8080/w_9/a.jpg", "http://example.com:8080/w_9/a.jpg"),
        ("_/https://example.com/a.jpg", "https://example.com/a.jpg"),
        ("https://example.com/a%3Fid=5.jpg", "https://example.com/a%3Fid=5.jpg"),
        ("https://example.com/a%252520b.jpg", "https://example.com/a%252520b.jpg"),
        ("https%3A%2F%2Fexample.com%2Fa.jpg%3Fid%3D5", "https://example.com/a.jpg?id=5"),
        ("https%3a%2f%2fexample.com%2fa%2520b.jpg", "https://example.com/a%20b.jpg"),
        ("https%3A%2F%2Fexample.com%2Fa%20b.jpg", "https://example.com/a%20b.jpg"),
        ("https%3A%2F%2Fexample.com%2F%C3%A4.jpg", "https://example.com/%C3%A4.jpg"),
        ("https:%2F%2Fexample.com/a.jpg", "https://example.com/a.jpg"),
        ("https%3A/example.com/a.jpg", "https://example.com/a.jpg"),
        ("w_400/b64/aHR0cHM6Ly9leGFtcGxlLmNvbS9hLmpwZz9pZD01", "https://example.com/a.jpg?id=5"),
        ("b64/aHR0cHM6Ly9leGFtcGxl/LmNvbS9hLmpwZz9pZD01", "https://example.com/a.jpg?id=5"),
        ("b64/" + b64("https://bücher.example/a b.jpg"), "https://xn--bcher-kva.example/a%20b.jpg"),
        ("b64/" + b64("https://example.com/a%2520b.jpg"), "https://example.com/a%2520b.jpg"),
    ],
)
def test_a_url_in_any_form_is_one_reference(tail: str, url: str) -> None:
    assert DIALECT.parse("/img/" + tail).ref == SourceRef(REMOTE, url)


@pytest.mark.parametrize(
    "tail",
    [
        "https://example.com/a.jpg?id=5",
        "https:/example.com/a.jpg?",
        "https://user@example.com/a.jpg",
        "https://example.com/../a.jpg",
        "https://example.com/%2e%2e/a.jpg",
        "https://example.com/a%0d%0aX:y",
        "https://example.com/100%.jpg",
        "https://",
        "http://127.1/a.jpg",
        "https%3A%2F%2Fexample.com%2Fa.jpg%23b",
        "https%3A%2F%2Fexample.com%2F..%2Fa.jpg",
        "https%3A%2F%2Fexample.com%5C@evil.example%2Fa.jpg",
        "https%3A%2F%2Fexample.com%2F%FF.jpg",
        "b64/" + b64("https://example.com/a.jpg#b"),
        "b64/" + b64("https://example.com/a\nb"),
        "b64/" + b64("https://user:password@example.com/a.jpg"),
        "ftp://example.com/a.jpg",
        "b64/" + b64("ftp://example.com/a.jpg"),
    ],
)
def test_a_malformed_url_is_refused(tail: str) -> None:
    with pytest.raises(BadSourcePath) as caught:
        DIALECT.parse("/img/" + tail)

    assert "example" not in caught.value.detail


def test_the_error_for_a_raw_url_with_a_query_says_how_to_write_it() -> None:
    with pytest.raises(BadSourcePath, match="percent-encode the whole URL, or write it as b64/"):
        DIALECT.parse("/img/w_9/https://example.com/a.jpg?id=5")


def test_the_query_after_an_encoded_url_is_ignored() -> None:
    assert DIALECT.parse("/img/https%3A%2F%2Fexample.com%2Fa.jpg?v=3").ref.path == "https://example.com/a.jpg"


def test_paths_are_still_paths() -> None:
    assert DIALECT.parse("/img/shop/http/a.jpg").ref == SourceRef("shop", "http/a.jpg")
    assert DIALECT.parse("/img/b64/" + b64("shop/ä.jpg")).ref == SourceRef("shop", "ä.jpg")


@pytest.mark.parametrize("tail", ["https://example.com/../a.jpg", "b64/" + b64("https://user@example.com/")])
def test_without_a_remote_source_every_url_is_denied_without_parsing(dialect: NativeDialect, tail: str) -> None:
    with pytest.raises(SourceDenied):
        dialect.parse("/img/" + tail)


def test_an_unescaped_url_is_resolved(dialect: NativeDialect) -> None:
    assert DIALECT.resolve("HTTPS://example.com/a b.jpg") == SourceRef(REMOTE, "https://example.com/a%20b.jpg")
    assert dialect.resolve("https://example.com/a.jpg") == SourceRef("photos", "https://example.com/a.jpg")
    with pytest.raises(BadSourcePath):
        DIALECT.resolve("https://user@example.com/a.jpg")


def test_a_built_target_of_a_url_is_not_rewritten_by_proxies() -> None:
    target = DIALECT.build(SourceRef(REMOTE, "https://example.com/a.jpg?id=5"), "w_400")

    assert target == "/img/w_400/b64/aHR0cHM6Ly9leGFtcGxlLmNvbS9hLmpwZz9pZD01"


def test_no_target_is_built_for_a_url_that_is_not_canonical() -> None:
    with pytest.raises(ImgserverError):
        DIALECT.build(SourceRef(REMOTE, "https://EXAMPLE.com/a.jpg"))
    with pytest.raises(ImgserverError):
        DIALECT.build(SourceRef(REMOTE, "a.jpg"))


urls = st.builds(
    lambda scheme, host, names, query: str(parse(f"{scheme}://{host}/{'/'.join(names)}{query}")),
    st.sampled_from(["http", "https"]),
    st.sampled_from(["example.com", "bücher.example:8080", "[2001:db8::1]"]),
    st.lists(st.sampled_from(["w_9", "a%20b", "ä.jpg", "https:", "b64", "_", "s--x--", "a%252Fb", "c,d", "e%2Ff"])),
    st.sampled_from(["", "?id=5", "?a=b&c=%25"]),
)


@given(urls, st.sampled_from(["", "w_800,q_80", "w_800/e_blur:4"]))
def test_a_built_target_is_parsed_to_its_url(url: str, options: str) -> None:
    ref = SourceRef(REMOTE, url)

    assert DIALECT.parse(DIALECT.build(ref, options)).ref == ref


@given(urls)
def test_all_forms_of_a_url_are_one_reference(url: str) -> None:
    texts = [quote(url, safe=""), "b64/" + b64(url)]
    if "?" not in url:
        texts += [url, url.replace("://", ":/", 1), url.replace("http", "HTTP", 1)]

    assert {DIALECT.parse("/img/w_9/" + text).ref for text in texts} == {SourceRef(REMOTE, url)}


@given(st.text(alphabet="htps:/%23Fa.@[]0x\\?é\x00", max_size=40))
def test_any_text_after_the_mount_is_parsed_or_refused(tail: str) -> None:
    for target in (f"/img/https://{tail}", f"/img/b64/{b64('https://' + tail)}", f"/img/https%3A%2F%2F{tail}"):
        try:
            DIALECT.parse(target)
        except ImgserverError as error:
            assert error.detail
