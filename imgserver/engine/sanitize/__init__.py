"""What the decoders get of a file: its image data, and metadata within bounds.

Hostile metadata can cost libvips seconds (see `exif`), and harmless faults of a file hide those that cost pixels (see
`jpeg`). Each module reads one container.
"""

import os

from imgserver.engine.sanitize import heif, jpeg, png, webp


def sanitized(path: str, name: str, *, pixels: bool) -> bytes | bytearray | None:
    """The bytes for the decoder of the format `name`; None if it may read the file itself.

    `pixels`: whether the image data is needed; if not, it is left out where that saves work. Raises BrokenImage and
    UnsupportedImage.
    """
    if name not in ("jpg", "png", "webp", "avif", "heic"):
        return None
    with open(path, "rb") as file:  # noqa: PTH123
        if name == "jpg":
            return jpeg.whole(file, os.fstat(file.fileno()).st_size) if pixels else jpeg.header(file)
        if name == "png":
            return png.whole(file) if pixels else png.header(file)
        return webp.whole(file) if name == "webp" else heif.whole(file)
