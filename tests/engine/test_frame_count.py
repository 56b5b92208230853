"""Frames are counted from the structure of a file, within bounds, whatever its bytes are."""

import io
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgserver.engine import frame_count
from imgserver.engine.frame_count import MAX_FRAMES, count_frames, frames_of
from tests import decompression_bombs
from tests.engine.conftest import saved
from tests.running_server import SAMPLES

CASES = Path(__file__).parent.parent / "cases"


def movie(name: str, count: int, **options: object) -> bytes:
    frames = [Image.effect_noise((30, 20), 60).convert("RGB") for _ in range(count)]
    return saved(frames[0], name, save_all=True, append_images=frames[1:], duration=50, **options)


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def sequence(*counts: int, kind: bytes = b"avis") -> bytes:
    """An image sequence with a track for each count, without its samples."""
    nested = [box(b"stsz", struct.pack(">III", 0, 0, count)) for count in counts]
    for name in (b"stbl", b"minf", b"mdia", b"trak"):
        nested = [box(name, box(b"free"), content) for content in nested]
    return box(b"ftyp", kind, bytes(4), kind) + box(b"mdat", bytes(100_000)) + box(b"moov", *nested)


def count(body: bytes) -> int:
    return frames_of(io.BytesIO(body))


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize("frames", [2, 7, 40])
def test_the_frames_of_an_animation_are_counted(name: str, frames: int) -> None:
    assert count(movie(name, frames)) == frames


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF", "JPEG", "TIFF", "BMP"])
def test_a_still_image_has_one_frame(name: str) -> None:
    assert count(saved(Image.new("RGB", (30, 20)), name)) == 1


def test_a_gif_without_a_loop_extension_is_counted() -> None:
    once = movie("GIF", 5)

    assert b"NETSCAPE" not in once
    assert count(once) == 5


def test_comments_and_local_color_tables_are_no_frames() -> None:
    assert count(movie("GIF", 3, comment=b",,,;" * 90)) == 3


def test_a_still_gif_with_a_loop_extension_has_one_frame() -> None:
    still = movie("GIF", 1, loop=0)

    assert count(still) == 1


def test_a_long_gif_is_projected_from_its_first_part(monkeypatch: pytest.MonkeyPatch) -> None:
    body = movie("GIF", 60)
    monkeypatch.setattr(frame_count, "MAX_GIF_BYTES", len(body) // 4)

    assert 50 <= count(body) <= 70


def test_the_longest_track_counts() -> None:
    assert count(sequence(12, 3)) == 12
    assert count(sequence(4, kind=b"hevc")) == 4
    assert count(sequence()) == 1


def test_pages_and_collections_are_no_frames() -> None:
    page = Image.new("L", (30, 20))

    assert count(saved(page, "TIFF", save_all=True, append_images=[page, page])) == 1
    assert count((CASES / "f22_primary_second.avif").read_bytes()) == 1


@pytest.mark.parametrize(
    ("name", "frames"),
    [("f1_pan90.gif", 90), ("f1_two_640x480.gif", 2), ("f20_animated.png", 3), ("animated_no_primary.avif", 3)],
)
def test_a_file_is_counted_by_its_path(name: str, frames: int) -> None:
    assert count_frames(str(CASES / name)) == frames


def test_a_photograph_is_counted_by_its_path() -> None:
    assert count_frames(str(SAMPLES / "cat.png")) == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(decompression_bombs.many_frames_gif(200_000), id="gif frames"),
        pytest.param(b"RIFF\xff\xff\xff\xffWEBP" + b"ANMF\0\0\0\0" * 500_000, id="webp frames"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIII", 8, b"acTL", 2**32 - 1, 0, 0), id="png frames"),
        pytest.param(sequence(2**32 - 1), id="sequence"),
    ],
)
def test_hostile_numbers_are_bounded(body: bytes) -> None:
    began = time.process_time()

    assert count(body) == MAX_FRAMES
    assert time.process_time() - began < 0.3


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(12) * 300_000, id="png chunks"),
        pytest.param(box(b"ftyp", b"avis", bytes(4)) + box(b"moov", box(b"trak") * 400_000), id="tracks"),
        pytest.param(box(b"ftyp", b"avis", bytes(4)) + box(b"moov") * 400_000, id="boxes"),
        pytest.param(b"GIF89a" + bytes(7) + b"!\xfe" + b"\x01a" * 2_000_000, id="comment"),
    ],
)
def test_hostile_structures_cost_little(body: bytes) -> None:
    began = time.process_time()

    assert count(body) == 1
    assert time.process_time() - began < 0.3


MAGICS = [b"GIF89a", b"RIFF\0\0\0\0WEBP", b"\x89PNG\r\n\x1a\n", sequence(3)[:40], b"\0\0\0\x10ftypavis\0\0\0\0"]


@given(st.sampled_from(MAGICS), st.binary(max_size=200))
def test_no_bytes_raise_an_error(magic: bytes, rest: bytes) -> None:
    assert 1 <= count(magic + rest) <= MAX_FRAMES
