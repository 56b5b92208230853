"""Encoders: one for each format that can be written.

To add a format: a module with an `Encoder`, its row in `ENCODERS`, and the format's row in `plan.formats.FORMATS`,
which holds its media type and its limits. `imgserver.testing.EncoderContract` tests it. docs/extending.md has an
example.

No module here imports pyvips: the server process reads this registry as well, and it must stay free of libvips.
"""

from typing import TYPE_CHECKING, Protocol

from imgserver.engine.encoders.avif import AVIF
from imgserver.engine.encoders.gif import GIF
from imgserver.engine.encoders.jpeg import JPEG
from imgserver.engine.encoders.png import PNG
from imgserver.engine.encoders.tiff import TIFF
from imgserver.engine.encoders.webp import WEBP
from imgserver.engine.job import Quality
from imgserver.plan.plan import Output

if TYPE_CHECKING:
    from imgserver.engine.vips import Image


class Encoder(Protocol):
    """Writes one format. It has no state: a worker process uses one object for all images."""

    @property
    def operation(self) -> str:
        """The libvips operation that this encoder needs; empty for none. A worker whose libvips does not have the
        operation does not offer the format."""
        ...

    def encode(self, image: "Image", *, output: Output, quality: Quality, keep: int) -> bytes:
        """The file, the same bytes for the same arguments.

        `image` is within the limits of the format's row. It has 8 bits per sample, in sRGB or gray (or in the profile
        of the original, if `output.profile` is "keep"), and an alpha channel only if the row has `alpha`. The frames
        of an animation stand below each other, each `image.get_page_height()` pixels high; `delay` holds their times
        in ms and `loop` the number of repetitions (0: forever).

        `output` is what the request asks for: quality, lossless, progressive, effort. `quality` holds the efforts that
        the server allows. `keep` are libvips' keep flags (VipsForeignKeep) for the metadata that is still in the
        image: 0 means that the file must hold no metadata.

        May raise pyvips.Error and MemoryError, which the caller translates, and errors of `errors.py`.
        """
        ...


ENCODERS: dict[str, Encoder] = {"jpg": JPEG, "png": PNG, "webp": WEBP, "avif": AVIF, "gif": GIF, "tiff": TIFF}
