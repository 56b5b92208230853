"""A GIF as the decoder gets it: with an alpha channel where pixels stay undrawn, and complete data.

The decoder has four faults. It gives an image an alpha channel only if a color is transparent, so undrawn pixels are
black. It fills the box of an opaque frame that is to be cleared with the background color, where browsers make it
transparent. It loses the last pixel of data without an end code. And it shows what precedes the end of a truncated
file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from imgserver.engine.frame_count import MAX_FRAMES
from imgserver.engine.gif_blocks import CLEAR, RESTORE, TRANSPARENT, GifFrame, codes_of, frames, header_end, screen
from imgserver.engine.gif_codes import count_pixels
from imgserver.errors import BrokenImage
from imgserver.plan.geometry import Box

# A frame of one transparent pixel: it makes the decoder return an alpha channel.
CLEAR_PIXEL = b"!\xf9\4\x01\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
# One more byte of compressed pixels, and the end of the data. What follows the last pixel is ignored.
PADDING = b"\1\0\0"


@dataclass(frozen=True, slots=True)
class Gif:
    """`data` is the file for the decoder, `frame_count` the number of frames of the original.

    `alpha`: whether a pixel of a frame can be transparent. `is_extended`: whether one more frame follows in `data`, and
    the decoder returns an alpha channel.
    """

    data: bytes
    frame_count: int
    alpha: bool
    is_extended: bool


def read(body: bytes, *, check_alpha: bool = False) -> Gif:
    """The GIF in `body`. `check_alpha`: the decoder returns an alpha channel also for an opaque image, in which an
    undrawn pixel is a missing one. Raises BrokenImage for a file that ends inside a frame."""
    found = list(islice(frames(body), MAX_FRAMES))
    if not found:
        raise BrokenImage("the source has no frames")
    if not found[-1].ends:
        found[-1] = _completed(body, found[-1])
    undrawn = _has_undrawn_pixels(body, found)
    alpha = undrawn or any(frame.is_transparent for frame in found)
    is_extended = undrawn or (check_alpha and not alpha)
    tail = CLEAR_PIXEL * is_extended + b";"
    return Gif(b"".join((body[: header_end(body)], *_parts(body, found), tail)), len(found), alpha, is_extended)


def _completed(body: bytes, frame: GifFrame) -> GifFrame:
    """The last frame of a truncated file, if only the end of its data is missing. Raises BrokenImage."""
    if frame.data < len(body):
        pixels, _ = count_pixels(codes_of(body, frame), body[frame.data])
        if 0 < frame.box.width * frame.box.height <= pixels:
            return frame
    raise BrokenImage("the source is truncated")


def _has_undrawn_pixels(body: bytes, found: Sequence[GifFrame]) -> bool:
    """Whether a frame is shown with pixels that nothing was drawn on, or that were cleared before. True also in some
    cases in which several frames together draw on all of them."""
    # A frame beyond the screen makes the canvas larger.
    sides = zip(screen(body), *((f.box.left + f.box.width, f.box.top + f.box.height) for f in found), strict=True)
    canvas = Box(0, 0, *map(max, sides))
    undrawn: Box | None = canvas
    for frame in found:
        if undrawn is not None and not frame.covers(undrawn):
            return True
        if frame.disposal == CLEAR:
            undrawn = frame.box
        elif frame.disposal != RESTORE:
            undrawn = None
    return False


def _shows_clearing(frame: GifFrame, following: GifFrame) -> bool:
    """Whether the box of a frame is cleared and seen so: below the following frame, or after that is taken back."""
    return frame.disposal == CLEAR and (following.disposal == RESTORE or not following.covers(frame.box))


def _parts(body: bytes, found: Sequence[GifFrame]) -> Iterator[bytes]:
    """The blocks of each frame, without comments and other extensions."""
    for frame, following in zip(found, [*found[1:], None], strict=True):
        yield frame.loop
        yield _control(body, frame, following)
        yield body[frame.descriptor : frame.end - frame.ends]
        yield PADDING if frame.ends else _missing(body, frame) + PADDING


def _missing(body: bytes, frame: GifFrame) -> bytes:
    """What a block lacks that the end of the file has cut."""
    at = frame.data + 1
    while at < len(body):
        at += 1 + body[at]
    return bytes(at - len(body))


def _control(body: bytes, frame: GifFrame, following: GifFrame | None) -> bytes:
    """The graphic control extension. A frame that is cleared gets a transparent color which it does not use: the
    decoder then makes its box transparent."""
    if following is None or frame.is_transparent or not _shows_clearing(frame, following):
        return frame.control
    used = count_pixels(codes_of(body, frame), body[frame.data])[1]
    unused = next((index for index in range(255, -1, -1) if index not in used), None)
    if unused is None:
        return frame.control
    return frame.control[:3] + bytes((frame.control[3] | TRANSPARENT, *frame.control[4:6], unused, 0))
