"""Targets from attackers and from broken clients."""

import pytest

from imgserver.dialects.native import NativeDialect
from imgserver.errors import BadOption, BadRequest, BadSourcePath, NotFound

BAD_PATHS = [
    "",
    "w_800/",
    "../etc/passwd",
    "%2e%2e/etc/passwd",
    "%2E./a.jpg",
    "a/../b.jpg",
    "a%2F..%2Fb.jpg",
    "./a.jpg",
    "a/./b.jpg",
    "/a.jpg",
    "//etc/passwd",
    "%2Fetc%2Fpasswd",
    "a//b.jpg",
    "a/",
    "w_9//w_8/a.jpg",
    "a\\b.jpg",
    "a%5Cb.jpg",
    "..%5C..%5Cboot.ini",
    "a%00.jpg",
    "a%0d%0aX:%20y.jpg",
    "a%7F.jpg",
    "a%C2%85.jpg",
    "100%.jpg",
    "a%zz.jpg",
    "a%2",
    "a%ff.jpg",
    "a%C0%AE.jpg",
    "a%ED%A0%80.jpg",
    "file:///etc/passwd",
    "b64/",
    "b64/%41",
    "b64/Li4vYS5qcGc",
    "b64/YQ==",
    "b64/YQBi",
    "b64/_w",
    "b64/A",
    "_/",
    "_/../a.jpg",
    "https://example.com/a.jpg?id=5",
]


@pytest.mark.parametrize("tail", BAD_PATHS)
def test_a_malformed_path_is_refused(dialect: NativeDialect, tail: str) -> None:
    with pytest.raises(BadSourcePath) as caught:
        dialect.parse("/img/" + tail)

    assert caught.value.detail


@pytest.mark.parametrize(
    "target",
    ["/%69mg/a.jpg", "//img/a.jpg", "/img", "http://other/img/a.jpg", "", "img/a.jpg", "/imgs/a.jpg", "/IMG/a.jpg"],
)
def test_a_target_outside_the_mount_is_not_found(dialect: NativeDialect, target: str) -> None:
    with pytest.raises(NotFound):
        dialect.parse(target)


@pytest.mark.parametrize("tail", ["a.jpg#x", "a.jpg?x#y", "a b.jpg", "caf\xe9.jpg", "a\udc80.jpg", "a\n.jpg", "\x00"])
def test_a_target_that_is_not_visible_ascii_or_has_a_fragment_is_a_bad_request(
    dialect: NativeDialect, tail: str
) -> None:
    with pytest.raises(BadRequest):
        dialect.parse("/img/" + tail)


@pytest.mark.parametrize(
    "digits", ["%D9%A3", "%EF%BC%95", "%E0%A5%AB", "%C2%B2", "%20 9".replace(" ", ""), "9%20", "9%0A"]
)
def test_only_ascii_digits_are_digits(dialect: NativeDialect, digits: str) -> None:
    with pytest.raises(BadOption):
        dialect.parse(f"/img/w_{digits}/a.jpg")


def test_an_escaped_separator_belongs_to_the_value(dialect: NativeDialect) -> None:
    with pytest.raises(BadOption, match='"9,h_9" is not allowed'):
        dialect.parse("/img/w_9%2Ch_9/a.jpg")


def test_an_escaped_slash_does_not_end_a_segment(dialect: NativeDialect) -> None:
    with pytest.raises(BadOption, match='"9/h_9" is not allowed'):
        dialect.parse("/img/w_9%2Fh_9/a.jpg")


def test_a_value_is_decoded_once(dialect: NativeDialect) -> None:
    with pytest.raises(BadOption, match='"16%3A9" is not allowed'):
        dialect.parse("/img/ar_16%253A9/a.jpg")


def test_a_long_value_is_shortened_in_the_message(dialect: NativeDialect) -> None:
    with pytest.raises(BadOption) as caught:
        dialect.parse("/img/w_" + "9" * 7000 + "/a.jpg")

    assert len(caught.value.detail) < 200
