"""HEIC files for tests. pillow-heif encodes them; imgserver itself does not use it."""

import io
from typing import Any

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()


def heic(*images: Image.Image, primary: int = 0, **options: Any) -> bytes:
    """A file of these pictures, coded nearly without loss; options as pillow-heif takes them. An orientation in `exif`
    becomes a turn of the container, as with a phone's."""
    body = io.BytesIO()
    file = {"save_all": len(images) > 1, "append_images": list(images[1:]), "primary_index": primary}
    images[0].save(body, "HEIF", **{"quality": 95, "chroma": 444} | file | options)
    return body.getvalue()


def deep_heic(image: Image.Image) -> bytes:
    """A HEIC with 10 bits per sample."""
    samples = b"".join(bytes((0, value)) for value in image.tobytes())
    body = io.BytesIO()
    pillow_heif.encode("RGB;16", image.size, samples, body, quality=95)
    return body.getvalue()
