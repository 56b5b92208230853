"""The header of an original, and the checks that need no more than that: nothing is decoded here."""

import os
import stat
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, BinaryIO, Protocol

from imgserver.engine import gif, heif_samples
from imgserver.engine.bitmap import open_bitmap
from imgserver.engine.frame_count import count_frames
from imgserver.engine.job import Limits, over
from imgserver.engine.readable import readable_format
from imgserver.engine.sanitize import sanitized
from imgserver.engine.svg import open_drawing
from imgserver.engine.tiff import samples
from imgserver.engine.tiff.completeness import is_complete
from imgserver.engine.tiff.fields import read_fields
from imgserver.engine.vips import LOADERS, Image, codecs, forget_warnings, loaded, reading
from imgserver.errors import BadRequest, BrokenImage, NotFound, UnsupportedImage
from imgserver.plan.plan import Dims
from imgserver.plan.sniffing import HEAD_BYTES

# Bytes of one sample by libvips' band format. Signed, floating point and 32-bit samples are refused: nothing in the
# file says which value is white.
SAMPLE_BYTES = {"uchar": 1, "ushort": 2}
# Formats whose pages are frames of an animation. The pages of a TIFF are separate images.
ANIMATED = frozenset({"gif", "webp"})
# Formats whose loaders read only the first frame of an animation.
UNREAD_FRAMES = frozenset({"png", "avif", "heic"})
# Formats whose decoders need a few rows at a time.
STREAMING = frozenset({"jpg", "png", "tiff"})
# The largest number of bands: CMYK with alpha.
MAX_BANDS = 5


class Content(Protocol):
    """A parsed original of a format that libvips does not read from the file: SVG, BMP, ICO."""

    @property
    def max_scale(self) -> Fraction:
        """How many times larger than its size it can be drawn: 1 for one that is made of pixels."""

    def outline(self) -> Image:
        """The image for its header: its pixels need not be right. Raises vips.Error and BrokenImage."""

    def at_scale(self, scale: Fraction, **options: Any) -> Image:
        """The image at `scale` times its size, or at its whole size. `options` are those of a loader of libvips.

        Raises vips.Error, BrokenImage and UnsupportedImage.
        """


@dataclass(frozen=True, slots=True)
class Header:
    """`dims` is the size of one page as stored, in pixels, and the number of frames that can be read.

    `file_frames` is the number of frames, pages or images in the file: of an animated PNG and of an AVIF or HEIC
    sequence only the first frame can be read. `subsampled`: whether a JPEG has fewer samples of color than of light.
    `bytes` is the size of the file. `page` is the first page to load, from 0. `content` is the parsed file of a format
    that libvips does not read, None for the others.
    """

    path: str
    format: str
    bytes: int
    dims: Dims
    bands: int
    sample_bytes: int
    alpha: bool
    interlaced: bool
    profile: bool
    interpretation: str
    subsampled: bool = False
    file_frames: int = 1
    page: int = 0
    content: Content | None = None

    @property
    def animated(self) -> bool:
        """Whether all frames of an animation can be read."""
        return self.format in ANIMATED and self.dims.frames > 1

    @property
    def decoded_bytes_per_pixel(self) -> int:
        """The most memory that decoding needs for a pixel.

        A JPEG, PNG or TIFF that streams is held after the conversion to 8 bits, if at all. A progressive JPEG holds all
        coefficients, 16 bits each, until the last scan; those of subsampled colors are at most half as many.
        """
        if self.format == "jpg" and self.interlaced:
            return 2 * (1 + (self.bands - 1) // 2 if self.subsampled else self.bands)
        streams = self.format in STREAMING and not self.interlaced
        return self.bands * (1 if streams else self.sample_bytes)

    @property
    def is_animation(self) -> bool:
        """Whether the file is an animation, even if only its first frame can be read."""
        return self.animated or self.file_frames > self.dims.frames


def examine(path: str, limits: Limits, *, page: int | None = None) -> Header:
    """The header of a file at `page` (from 0), by default at its primary image.

    Raises NotFound, UnsupportedImage, BrokenImage, ImageOverLimit, and BadRequest for a page that does not exist.
    """
    size, name = _file(path, limits, page)
    if name not in codecs().read:
        raise UnsupportedImage(f"{name} cannot be read here", format=name)
    with reading():
        content = _content(path, name, limits)
        image = content.outline() if content else opened(path, name, pixels=False)
        pages = image.get_n_pages()
        primary = _field(image, "heif-primary", 0)
        page = primary if page is None else page
        if page >= pages:
            raise BadRequest(
                f"pg: page {page + 1} of {pages}", argument="pg", value=str(page + 1), allowed=f"1-{pages}"
            )
        image = opened(path, name, pixels=False, page=page) if page != primary else image
        header = _described(image, path, name=name, size=size, page=page, content=content)
        if name in UNREAD_FRAMES:
            header = replace(header, file_frames=max(header.file_frames, count_frames(path)))
    _refuse_side(header, limits)
    return header


def opened(path: str, name: str, *, pixels: bool = True, **options: Any) -> Image:
    """The image of a format that libvips reads from the file, opened lazily: only its header is read.

    `options` are the loader's. `pixels`: whether they may be read; if not, less of the file is read. Raises vips.Error,
    BrokenImage and UnsupportedImage.
    """
    if name == "gif":
        return gif.opened(path, **options)
    page = options.get("page", 0)
    data = sanitized(path, name, pixels=pixels, page=page)
    # Without fail_on=truncated libvips fills the missing part of an image with gray and reports success.
    if data is not None:
        image = loaded(name, data, fail_on="truncated", **options)
    else:
        image = getattr(Image, LOADERS[name][1])(path, fail_on="truncated", **options)
    if name in ("tiff", "avif"):
        with open(path, "rb") as file:  # noqa: PTH123
            if name == "tiff":
                image = samples.shown(image, read_fields(file, page))
            else:
                image = heif_samples.shown(image, file, options.get("page"))
    # What is reported without an error costs no pixel so far.
    forget_warnings()
    return image


def reopened(header: Header) -> Image:
    """The image of an examined file, opened lazily. Raises vips.Error."""
    if header.content is not None:
        return header.content.outline()
    return opened(header.path, header.format)


def _content(path: str, name: str, limits: Limits) -> Content | None:
    """Raises BrokenImage, UnsupportedImage and ImageOverLimit."""
    if name == "svg":
        return open_drawing(path, limits)
    return open_bitmap(path, name, limits) if name in ("bmp", "ico") else None


def _file(path: str, limits: Limits, page: int | None) -> tuple[int, str]:
    """Size and format of a regular file. Opened without blocking: a FIFO would block for ever."""
    with reading():
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotFound("the source is not a regular file")
    with os.fdopen(descriptor, "rb") as file, reading():
        if status.st_size > limits.source_bytes:
            raise over("source bytes", status.st_size, limits.source_bytes)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        name = readable_format(head, svg=limits.svg)
        _refuse_incomplete(file, name, status.st_size, page)
    return status.st_size, name


def _refuse_incomplete(file: BinaryIO, name: str, size: int, page: int | None) -> None:
    """For formats whose loaders accept incomplete files, or call files of an unreadable kind corrupt. Raises
    BrokenImage and UnsupportedImage."""
    if name in heif_samples.CODECS:
        heif_samples.refuse_unreadable(file, name, size, page)
    if name == "tiff":
        fields = read_fields(file, page or 0)
        samples.refuse_unsupported(fields)
        if not is_complete(fields, size):
            raise BrokenImage("the source is truncated")


def _described(image: Image, path: str, *, name: str, size: int, page: int, content: Content | None) -> Header:
    if image.bands > MAX_BANDS or image.format not in SAMPLE_BYTES:
        raise UnsupportedImage(f"an image of {image.bands} {image.format} bands cannot be shown", format=name)
    orientation = int(_field(image, "orientation", 1))
    return Header(
        path=path,
        format=name,
        bytes=size,
        dims=Dims(image.width, image.height, orientation if 1 <= orientation <= 8 else 1, image.get_n_pages()),
        bands=image.bands,
        # The decoder of HEIC delivers 8 bits, whatever the file holds.
        sample_bytes=1 if name == "heic" else SAMPLE_BYTES[image.format],
        alpha=bool(image.hasalpha()),
        interlaced=bool(_field(image, "interlaced", 0)),
        profile=bool(image.get_typeof("icc-profile-data")),
        interpretation=image.interpretation,
        subsampled=_field(image, "jpeg-chroma-subsample", "4:4:4") != "4:4:4",
        file_frames=image.get_n_pages(),
        page=page,
        content=content,
    )


def _field(image: Image, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default


def _refuse_side(header: Header, limits: Limits) -> None:
    """The buffers of decoders grow with the width alone: a PNG of 41 bytes can claim a line of a million pixels."""
    side = max(header.dims.width, header.dims.height)
    if side > limits.source_side:
        raise over("source side", side, limits.source_side)


def refuse_over(header: Header, frames: int, limits: Limits) -> None:
    """Checks the limits that depend on the number of frames to load. Raises ImageOverLimit."""
    if frames > limits.frames:
        raise over("frames", frames, limits.frames)
    pixels = header.dims.width * header.dims.height * frames
    if pixels > limits.source_pixels:
        raise over("source pixels", pixels, limits.source_pixels)
    decoded = pixels * header.decoded_bytes_per_pixel
    if decoded > limits.decoded_bytes:
        raise over("decoded bytes", decoded, limits.decoded_bytes)
