"""The frames of a GIF by libvips, with the faults of its decoder mended (see `sanitize.gif`)."""

from pathlib import Path
from typing import Any

from imgserver.engine.sanitize import gif
from imgserver.engine.vips import GInt, GInts, Image, loaded
from imgserver.errors import BrokenImage


def opened(path: str, **options: Any) -> Image:
    """The image, opened lazily. `options` are the loader's. Raises vips.Error and BrokenImage."""
    return _open(gif.read(Path(path).read_bytes()), **options)


def opened_still(path: str, **options: Any) -> Image:
    """The first frame. Raises vips.Error, and BrokenImage if an opaque frame lacks pixels: the decoder accepts data
    that ends early."""
    read = gif.read(Path(path).read_bytes(), check_alpha=True)
    image = _open(read, **options, access="random")
    if read.alpha:
        return image
    if image.extract_band(image.bands - 1).min() < 255:
        raise BrokenImage("the source lacks pixels")
    return image.extract_band(0, n=image.bands - 1)


def _open(read: gif.Gif, **options: Any) -> Image:
    """The image without the frame that `read` may end with."""
    image = loaded("gif", read.data, fail_on="truncated", **options)
    if not read.is_extended:
        return image
    image = image.copy()
    image.remove("n-pages")
    if read.frame_count > 1:
        image.set_type(GInt, "n-pages", read.frame_count)
    if image.get_typeof("delay"):
        image.set_type(GInts, "delay", image.get("delay")[: read.frame_count])
    return image
