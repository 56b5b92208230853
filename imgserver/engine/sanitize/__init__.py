"""What the decoders get of a file: its image data, and metadata within bounds.

Hostile metadata can cost libvips seconds (see `exif`), and harmless faults of a file hide those that cost pixels (see
`jpeg`). Each module reads one container.
"""

import os

from imgserver.engine.sanitize import heif, jpeg, png, tiff, webp


def sanitized(path: str, name: str, *, pixels: bool, page: int = 0) -> bytes | bytearray | None:
    """The bytes for the decoder of the format `name`; None if it may read the file itself.

    `pixels`: whether the image data is needed; if not, it is left out where that saves work. `page` (from 0) is that of
    a TIFF. Raises BrokenImage and UnsupportedImage.
    """
    if name not in ("jpg", "png", "webp", "avif", "heic", "tiff"):
        return None
    with open(path, "rb") as file:  # noqa: PTH123
        match name:
            case "jpg":
                return jpeg.whole(file, os.fstat(file.fileno()).st_size) if pixels else jpeg.header(file)
            case "png":
                return png.whole(file) if pixels else png.header(file)
            case "webp":
                return webp.whole(file)
            case "tiff":
                return tiff.whole(file, page)
            case _:
                return heif.whole(file)
