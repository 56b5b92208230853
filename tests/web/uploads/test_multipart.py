"""Every form, however its bytes are split into pieces, gives the same result or an ImgserverError, and leaves no file
open."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.errors import BadRequest, BodyTooLarge, ImgserverError, UnsupportedImage
from imgserver.web.uploads.multipart import MAX_FIELD_BYTES
from tests.fuzz.forms import bodies
from tests.fuzz.upload_receiver import Receiver, equivalent, split
from tests.multipart_forms import BOUNDARY, form, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@given(body=bodies(), at=st.lists(st.integers(0, 1 << 20), max_size=30))
async def test_a_form_gives_the_same_result_however_it_is_split(folder: Path, body: bytes, at: list[int]) -> None:
    receiver = Receiver(folder)
    whole = await receiver.receive([body])
    pieces = await receiver.receive(split(body, at))
    bytewise = await receiver.receive([body[i : i + 1] for i in range(len(body))]) if len(body) < 2000 else whole
    await receiver.close()

    assert equivalent(pieces) == equivalent(whole)
    assert equivalent(bytewise) == equivalent(whole)


@pytest.mark.parametrize("before", [b"x", b"cu\r", b"x\r\n", b"preamble of eleven words\r\n"])
async def test_text_before_the_first_boundary_is_refused_however_it_is_split(folder: Path, before: bytes) -> None:
    body = before + form(picture(b"abc")).replace(BOUNDARY, b"cut")
    receiver = Receiver(folder)
    outcomes = [await receiver.receive(split(body, [at])) for at in range(len(body))]
    await receiver.close()

    assert outcomes == [(BadRequest, {})] * len(body)


async def test_a_bare_line_feed_in_a_header_is_refused_however_it_is_split(folder: Path) -> None:
    body = form((b'name="image"; filename="a\nb.jpg"', b"abc")).replace(BOUNDARY, b"cut")
    receiver = Receiver(folder)
    outcomes = [await receiver.receive(split(body, [at])) for at in range(len(body))]
    await receiver.close()

    assert outcomes == [(BadRequest, {})] * len(body)


async def test_a_line_break_before_the_first_boundary_is_accepted(folder: Path) -> None:
    body = b"\r\n" + form(picture(b"abc")).replace(BOUNDARY, b"cut")
    receiver = Receiver(folder)
    outcomes = [await receiver.receive(split(body, [at])) for at in range(len(body))]
    await receiver.close()

    assert outcomes == [([("photo.jpg", b"abc")], [])] * len(body)


@given(body=st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"--cut\r\n" + tail))
async def test_any_bytes_give_a_form_or_an_imgserver_error(folder: Path, body: bytes) -> None:
    receiver = Receiver(folder)
    await receiver.receive([body])
    await receiver.close()


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
async def test_a_faulty_form_is_refused(folder: Path, body: bytes, kind: type[ImgserverError]) -> None:
    receiver = Receiver(folder)
    outcome = await receiver.receive([body])
    await receiver.close()

    assert outcome[0] is kind
