"""The metadata of a WebP is bounded, and nothing else of it changes."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from imgserver.engine.sanitize import webp
from imgserver.errors import BrokenImage
from tests.engine.conftest import Renderer, opened, saved

PHOTO = Image.effect_noise((90, 60), 60).convert("RGB")


def with_chunk(name: bytes, content: bytes) -> bytes:
    """A WebP with EXIF, and a chunk behind it."""
    data = saved(PHOTO, "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    body = data[8:] + name + struct.pack("<I", len(content)) + content + bytes(len(content) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_file_without_metadata_is_not_copied() -> None:
    assert webp.whole(BytesIO(saved(PHOTO, "WEBP"))) is None
    assert webp.whole(BytesIO(saved(PHOTO.convert("RGBA"), "WEBP"))) is None


@pytest.mark.parametrize("size", [10, 11, 3_000_000])
@pytest.mark.parametrize("name", [b"XMP ", b"ICCP", b"XYZW"])
def test_the_pixels_stay_and_large_metadata_goes(draw: Renderer, name: bytes, size: int) -> None:
    data = with_chunk(name, bytes(size))

    assert draw.image(data).tobytes() == PHOTO.tobytes()
    assert opened(bytes(webp.whole(BytesIO(data)) or b"")).size == PHOTO.size


@pytest.mark.parametrize("tail", [b"<html>", b"\0", b"RIFF\xff\xff\xff\xffWEBP"])
def test_what_follows_the_container_is_irrelevant(draw: Renderer, tail: bytes) -> None:
    assert draw.image(with_chunk(b"XYZW", b"") + tail).tobytes() == PHOTO.tobytes()


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_truncated_file_stays_truncated(draw: Renderer, kept: float) -> None:
    data = saved(PHOTO, "WEBP", lossless=True, icc_profile=b"a profile")

    with pytest.raises(BrokenImage):
        draw(data[: int(len(data) * kept)])


def test_an_animation_keeps_its_frames(draw: Renderer) -> None:
    frames = [Image.new("RGB", (20, 10), (40 * number, 0, 0)) for number in range(4)]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, xmp=b"<x/>")

    assert draw(data, format="webp").size.frames == 4


def test_endless_chunks_are_refused() -> None:
    body = with_chunk(b"XYZW", b"")[8:30] + b"ABCD\0\0\0\0" * 30_000

    with pytest.raises(BrokenImage):
        webp.whole(BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body))
