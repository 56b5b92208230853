"""The pixels of a HEIC picture: the sole importer of pi-heif, which is optional (`pip install 'imgserver[heic]'`).

Header, limits, metadata and profile are read by libvips, as of any picture; its usual builds only lack the decoder for
HEVC, for that is patented. So there is nothing here but one picture of a file turned into bytes.

pi-heif is entered by its inner door, `_pi_heif`. The outer one reads metadata, thumbnails and depth maps of all
pictures in the file before the first pixel is asked for, and 1.4.0 dies of some that lie about their type.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgserver.errors import BrokenImage, UnsupportedImage

# Of a worker, which is one core. The other arguments of the door: 8 bits, RGB, rows without padding, any decoder.
THREADS = 1
# Samples of one pixel by pi-heif's modes; in `RGBa` colors are premultiplied.
BANDS = {"L": 1, "RGB": 3, "RGBA": 4, "RGBa": 4}

UNKNOWN_KIND = "a HEIC of this kind cannot be read here"


@dataclass(frozen=True, slots=True)
class Pixels:
    """8-bit samples, row by row, upright: a HEIC's own turns and mirrors have been done."""

    data: bytes
    width: int
    height: int
    bands: int
    premultiplied: bool


def decoded(path: str, page: int, size: tuple[int, int]) -> Pixels:
    """The picture at `page` (from 0), which is of this size or refused before it is decoded.

    Raises BrokenImage, UnsupportedImage and MemoryError.
    """
    import _pi_heif

    try:
        picture = _at(_pi_heif.load_file(Path(path).read_bytes(), THREADS, 1, 0, 1, 1, "", 0), page)
        mode = _mode(picture, size)
        # A copy: what pi-heif hands out is memory of `picture`, which it does not keep alive.
        data = bytes(picture.data)
        # The decoder believes the stream, not the header: the size is looked at once more.
        _mode(picture, size)
    except SyntaxError as error:  # of libheif: a feature or codec it has not
        raise UnsupportedImage(UNKNOWN_KIND, format="heic") from error
    except (ValueError, RuntimeError, EOFError, OSError) as error:
        raise _judged(error) from error
    return Pixels(data, *size, BANDS[mode], premultiplied=mode.endswith("a"))


def _at(pictures: list[Any], page: int) -> Any:
    if page >= len(pictures) or pictures[page] is None:
        raise BrokenImage("the source is truncated or corrupt")
    return pictures[page]


def _mode(picture: Any, size: tuple[int, int]) -> str:
    found, mode = picture.size_mode
    if found != size:
        raise BrokenImage("the source is truncated or corrupt")
    if mode not in BANDS:
        # Gray of more than 8 bits: pi-heif believes the header's bits, and would read behind the rows of one that lies.
        raise UnsupportedImage("a gray HEIC of more than 8 bits cannot be read here", format="heic")
    return str(mode)


def _judged(error: Exception) -> Exception:
    """By its text: libheif has one kind of error for nearly all."""
    text = str(error).lower()
    if "memory" in text or "security limit" in text:
        return MemoryError(text)
    if "not been built in" in text:
        return UnsupportedImage(UNKNOWN_KIND, format="heic")
    return BrokenImage("the source is truncated or corrupt")
