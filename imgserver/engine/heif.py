"""The pixels of a HEIC image: the only importer of pi-heif, which is optional (`pip install 'imgserver[heic]'`).

libvips reads header, limits, metadata and profile, as of any format. Its usual builds lack only the decoder for HEVC,
which is patented. This module turns one image of a file into bytes, and does nothing else.

It calls the extension module `_pi_heif` directly. The public API of pi-heif reads metadata, thumbnails and depth maps
of all images in the file before the first pixel is needed, and version 1.4.0 crashes on some that declare a wrong type.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgserver.errors import BrokenImage, UnsupportedImage

# A worker uses one core. The other arguments of `load_file`: 8 bits, RGB, rows without padding, any decoder.
THREADS = 1
# Samples of one pixel by pi-heif's modes. In `RGBa` the colors are premultiplied.
BANDS = {"L": 1, "RGB": 3, "RGBA": 4, "RGBa": 4}

UNKNOWN_KIND = "a HEIC of this kind cannot be read here"


@dataclass(frozen=True, slots=True)
class Pixels:
    """8-bit samples, row by row. The turns and mirrors that the file declares are already applied."""

    data: bytes
    width: int
    height: int
    bands: int
    premultiplied: bool


def decoded(path: str, page: int, size: tuple[int, int]) -> Pixels:
    """The image at `page` (from 0). An image of another size than `size` is refused before it is decoded.

    Raises BrokenImage, UnsupportedImage and MemoryError.
    """
    import _pi_heif

    try:
        image = _at(_pi_heif.load_file(Path(path).read_bytes(), THREADS, 1, 0, 1, 1, "", 0), page)
        mode = _mode(image, size)
        # A copy: `image.data` is a view into `image`, and does not keep it alive.
        data = bytes(image.data)
        # The decoder takes the size from the stream, not from the header: it is checked again.
        _mode(image, size)
    except SyntaxError as error:  # libheif lacks a feature or codec
        raise UnsupportedImage(UNKNOWN_KIND, format="heic") from error
    except (ValueError, RuntimeError, EOFError, OSError) as error:
        raise _translated(error) from error
    return Pixels(data, *size, BANDS[mode], premultiplied=mode.endswith("a"))


def _at(images: list[Any], page: int) -> Any:
    if page >= len(images) or images[page] is None:
        raise BrokenImage("the source is truncated or corrupt")
    return images[page]


def _mode(image: Any, size: tuple[int, int]) -> str:
    found, mode = image.size_mode
    if found != size:
        raise BrokenImage("the source is truncated or corrupt")
    if mode not in BANDS:
        # Gray of more than 8 bits: pi-heif trusts the depth in the header. With a wrong one it would read beyond the
        # rows.
        raise UnsupportedImage("a gray HEIC of more than 8 bits cannot be read here", format="heic")
    return str(mode)


def _translated(error: Exception) -> Exception:
    """Our error for an error of libheif, by its text: libheif uses one class for nearly all faults."""
    text = str(error).lower()
    if "memory" in text or "security limit" in text:
        return MemoryError(text)
    if "not been built in" in text:
        return UnsupportedImage(UNKNOWN_KIND, format="heic")
    return BrokenImage("the source is truncated or corrupt")
