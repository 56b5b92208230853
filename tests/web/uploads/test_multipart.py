"""Whatever a form's bytes and however they come: a result or an error of ours, the same for every way to cut them into
pieces, and no file left open."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.errors import BadRequest, BodyTooLarge, ImgserverError, UnsupportedImage
from imgserver.web.uploads.multipart import MAX_FIELD_BYTES
from tests.fuzz.forms import bodies
from tests.fuzz.intake import Place, cut, meaning
from tests.multipart_forms import BOUNDARY, form, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@given(body=bodies(), at=st.lists(st.integers(0, 1 << 20), max_size=30))
async def test_a_form_means_the_same_however_it_is_cut(folder: Path, body: bytes, at: list[int]) -> None:
    place = Place(folder)
    whole = await place.taken([body])
    pieces = await place.taken(cut(body, at))
    bytewise = await place.taken([body[i : i + 1] for i in range(len(body))]) if len(body) < 2000 else whole
    await place.close()

    assert meaning(pieces) == meaning(whole)
    assert meaning(bytewise) == meaning(whole)


@pytest.mark.parametrize("before", [b"x", b"cu\r", b"x\r\n", b"preamble of eleven words\r\n"])
async def test_nothing_stands_before_a_form_whole_or_cut(folder: Path, before: bytes) -> None:
    body = before + form(picture(b"abc")).replace(BOUNDARY, b"cut")
    place = Place(folder)
    outcomes = [await place.taken(cut(body, [at])) for at in range(len(body))]
    await place.close()

    assert outcomes == [(BadRequest, {})] * len(body)


async def test_a_bare_line_feed_stands_in_no_header_whole_or_cut(folder: Path) -> None:
    body = form((b'name="image"; filename="a\nb.jpg"', b"abc")).replace(BOUNDARY, b"cut")
    place = Place(folder)
    outcomes = [await place.taken(cut(body, [at])) for at in range(len(body))]
    await place.close()

    assert outcomes == [(BadRequest, {})] * len(body)


async def test_a_line_break_may_stand_before_it(folder: Path) -> None:
    body = b"\r\n" + form(picture(b"abc")).replace(BOUNDARY, b"cut")
    place = Place(folder)
    outcomes = [await place.taken(cut(body, [at])) for at in range(len(body))]
    await place.close()

    assert outcomes == [([("photo.jpg", b"abc")], [])] * len(body)


@given(body=st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"--cut\r\n" + tail))
async def test_any_bytes_are_a_form_or_refused(folder: Path, body: bytes) -> None:
    place = Place(folder)
    await place.taken([body])
    await place.close()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"--cut\r\nContent-Disposition: form-data; name=image\r\n\r\n" + b"p" * 100, BadRequest),
        (b"--cut\r\n" + b"A: b\r\n" * 20 + b"\r\n", BodyTooLarge),
        (b"--cut\r\nA: " + b"b" * 10_000, BodyTooLarge),
        (b"--cut\r\nContent-Disposition: form-data; name=w\r\n\r\n" + b"1" * (MAX_FIELD_BYTES + 1), BodyTooLarge),
        (b"--cut\r\nContent-Disposition: form-data; name=image\r\nContent-Encoding: gzip\r\n\r\n", UnsupportedImage),
        (b"--cut\r\nContent-Disposition: form-data; name=w\r\n\r\n\xff\r\n--cut--\r\n", BadRequest),
        (b"x" * 100_000, BadRequest),
    ],
)
async def test_what_is_wrong_is_told(folder: Path, body: bytes, kind: type[ImgserverError]) -> None:
    place = Place(folder)
    outcome = await place.taken([body])
    await place.close()

    assert outcome[0] is kind
