"""A JPEG is judged by its pixels: it is shown if none is missing, and refused if the decoder had to invent some."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from imgserver.engine.sanitize import jpeg
from imgserver.errors import BrokenImage, UnsupportedImage
from imgserver.plan.plan import Fit, Px
from tests.engine.conftest import SAMPLES, Renderer, difference, opened, saved
from tests.running_server import CASES

FIT = Fit(Px(30))
EOI = b"\xff\xd9"


def photo() -> Image.Image:
    with Image.open(SAMPLES / "creek.jpg") as image:
        return image.convert("RGB").resize((240, 160))


KINDS: dict[str, dict[str, object]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 5},
    "full chroma": {"subsampling": 0},
    "gray": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest) -> bytes:
    options = dict(KINDS[request.param])
    return saved(photo().convert(str(options.pop("mode", "RGB"))), "JPEG", quality=85, **options)


def splice(data: bytes, at: int, segment: bytes) -> bytes:
    return data[:at] + segment + data[at:]


def patched(data: bytes, sof: bytes, offset: int, value: bytes) -> bytes:
    """The file with `value` at `offset` in its frame header."""
    at = data.index(sof) + offset
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize("steps", [(), (FIT,)])
@pytest.mark.parametrize("tail", [b"", b"\xff", EOI + bytes(99), EOI + b"\xff\xd8\xff\xe0", EOI + EOI, bytes(50)])
def test_what_follows_the_last_pixel_is_irrelevant(
    draw: Renderer, whole: bytes, tail: bytes, steps: tuple[Fit, ...]
) -> None:
    assert draw.image(whole[:-2] + tail, *steps).tobytes() == draw.image(whole, *steps).tobytes()


@pytest.mark.parametrize("end", ["nothing", "an end marker", "the whole image", "zeros"])
@pytest.mark.parametrize("steps", [(), (FIT,)])
def test_a_file_that_lacks_pixels_is_broken_whatever_follows(
    draw: Renderer, whole: bytes, end: str, steps: tuple[Fit, ...]
) -> None:
    tail = {"nothing": b"", "an end marker": EOI, "the whole image": whole, "zeros": b"\xff\xd9" + bytes(5000)}[end]
    lengths = [len(whole) * third // 3 for third in (1, 2)] + [len(whole) - lost for lost in (4, 30)]
    for length in lengths:
        with pytest.raises(BrokenImage):
            draw(whole[:length] + tail, *steps)


@pytest.mark.parametrize("name", ["f6_no_eoi.jpg", "f6_progressive_no_eoi.jpg"])
def test_a_file_without_an_end_marker_shows_all_pixels(draw: Renderer, name: str) -> None:
    expected = opened((CASES / name).read_bytes() + EOI)

    assert difference(draw.image(CASES / name), expected, side=100) <= 3


@pytest.mark.parametrize("steps", [(), (FIT,)])
@pytest.mark.parametrize("name", ["f7_half_then_eoi.jpg", "f7_taller_header.jpg", "f7_half_then_whole.jpg"])
def test_half_an_image_is_broken(draw: Renderer, name: str, steps: tuple[Fit, ...]) -> None:
    with pytest.raises(BrokenImage):
        draw(CASES / name, *steps)


@pytest.mark.parametrize(("height", "width"), [(161, 240), (168, 240), (168, 30), (176, 30), (500, 30)])
def test_a_header_that_is_one_block_taller_than_the_data_is_broken(draw: Renderer, height: int, width: int) -> None:
    data = saved(photo(), "JPEG", subsampling=0)
    taller = patched(data, b"\xff\xc0", 5, height.to_bytes(2, "big"))

    with pytest.raises(BrokenImage):
        draw(taller, Fit(Px(width)))


def test_a_header_that_is_lower_than_the_data_shows_its_lines(draw: Renderer) -> None:
    lower = patched(saved(photo(), "JPEG", subsampling=0), b"\xff\xc0", 5, (80).to_bytes(2, "big"))

    assert difference(draw.image(lower), photo().crop((0, 0, 240, 80))) < 16


@pytest.mark.parametrize("end", [b"", EOI])
def test_a_progressive_file_that_ends_between_two_scans_is_broken(draw: Renderer, end: bytes) -> None:
    data = saved(photo(), "JPEG", progressive=True)
    tables = b"\xff\xc4"
    at = data.index(b"\xff\xda")
    for _ in range(8):
        at = data.find(tables, at + 2)
        with pytest.raises(BrokenImage):
            draw(data[:at] + end, FIT)


def test_more_scans_than_any_encoder_writes_are_refused(draw: Renderer) -> None:
    data = saved(photo(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")

    with pytest.raises(BrokenImage):
        draw(data[:-2] + data[last:-2] * 300 + EOI, FIT)


FAULTS = {
    "JFIF of a later version": lambda data: data.replace(b"JFIF\0\1\1", b"JFIF\0\7\7", 1),
    "an unknown color transform": lambda data: splice(data, 2, b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x77"),
    "bytes between segments": lambda data: splice(data, data.index(b"\xff\xdb"), b"\0\1\2\3"),
    "fill bytes": lambda data: splice(data, data.index(b"\xff\xdb"), b"\xff" * 9),
    "odd limits in the scan header": lambda data: data.replace(
        b"\3\1\0\2\x11\3\x11\0\x3f\0", b"\3\1\0\2\x11\3\x11\0\0\0"
    ),
    "bytes after the last scan": lambda data: data[:-2] + b"\0" + EOI,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_harmless_fault_hides_no_missing_pixel(draw: Renderer, fault: str) -> None:
    data = saved(photo(), "JPEG", quality=85)
    faulty = FAULTS[fault](data)

    assert faulty != data
    assert draw.image(faulty, FIT).tobytes() == draw.image(data, FIT).tobytes()
    half = len(faulty) * 2 // 3
    with pytest.raises(BrokenImage):
        draw(faulty[:half] + EOI, FIT)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_lost_piece_of_a_scan_is_broken(draw: Renderer, progressive: bool) -> None:
    data = saved(photo(), "JPEG", quality=85, progressive=progressive)
    third = len(data) // 3

    with pytest.raises(BrokenImage):
        draw(data[:third] + data[2 * third :], FIT)


def test_a_lost_restart_interval_is_broken(draw: Renderer) -> None:
    data = saved(photo(), "JPEG", quality=85, restart_marker_blocks=5)
    first, second = data.index(b"\xff\xd1"), data.index(b"\xff\xd2")

    with pytest.raises(BrokenImage):
        draw(data[:first] + data[second:], FIT)


@pytest.mark.parametrize("lost", ["removed", "zeroed"])
def test_damage_in_a_restart_interval_is_broken(draw: Renderer, lost: str) -> None:
    data = saved(photo().resize((600, 400)), "JPEG", quality=85, restart_marker_rows=1)
    at = len(data) // 2
    damaged = data[:at] + (bytes(1500) if lost == "zeroed" else b"") + data[at + 1500 :]

    with pytest.raises(BrokenImage):
        draw.image(damaged)


def test_a_warning_about_one_original_does_not_condemn_the_next(draw: Renderer) -> None:
    data = saved(photo(), "JPEG")
    with pytest.raises(BrokenImage):
        draw(data[:-400] + EOI)

    assert draw.image(data).size == (240, 160)


@pytest.mark.parametrize("sof", [0xC3, 0xC5, 0xC7, 0xCF])
def test_a_whole_file_of_another_process_is_unsupported(draw: Renderer, sof: int) -> None:
    with pytest.raises(UnsupportedImage):
        draw(saved(photo(), "JPEG").replace(b"\xff\xc0", bytes((0xFF, sof)), 1))


def test_a_lossless_file_is_not_judged_by_its_coefficients(draw: Renderer) -> None:
    """One component of 8 by 8 pixels, all of them as predicted: one bit of 0 each, from a table with one code."""
    frame = b"\xff\xc3\0\x0b\x08\0\x08\0\x08\1\1\x11\0"
    table = b"\xff\xc4\0\x14\0\1" + bytes(15) + b"\0"
    data = b"\xff\xd8" + frame + table + b"\xff\xda\0\x08\1\1\0\1\0\0" + bytes(8) + EOI

    assert draw.image(data).convert("L").tobytes() == bytes([128]) * 64


@pytest.mark.parametrize(("offset", "value"), [(4, b"\x0c"), (5, b"\0\0")])
def test_twelve_bits_and_a_height_after_the_scan_are_unsupported(draw: Renderer, offset: int, value: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        draw(patched(saved(photo(), "JPEG"), b"\xff\xc0", offset, value))


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\0\0", b"\xff\xd8\xff\xd9" * 9]
)
def test_a_file_without_a_scan_is_broken(draw: Renderer, data: bytes) -> None:
    with pytest.raises(BrokenImage):
        draw(data)


@pytest.mark.parametrize("piece", [b"\xff\xe5\0\2", b"\xff\xfe\0\2", b"\0", b"\xff\x01"])
def test_endless_segments_are_refused(piece: bytes) -> None:
    with pytest.raises(BrokenImage):
        jpeg.header(BytesIO(b"\xff\xd8" + piece * 10_000))


def test_large_metadata_is_cut_off(tmp_path: Path) -> None:
    data = saved(photo(), "JPEG", icc_profile=bytes(300_000))
    comments = b"".join(b"\xff\xfe\xff\xff" + bytes(65_533) for _ in range(100))
    profile = b"".join(b"\xff\xe2\xff\xffICC_PROFILE\0\1\1" + bytes(65_519) for _ in range(100))
    large = splice(data, 2, comments + profile)

    assert len(jpeg.header(BytesIO(large))) < 6 << 20
    assert len(jpeg.header(BytesIO(data))) > 300_000
