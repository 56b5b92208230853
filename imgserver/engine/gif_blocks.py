"""The blocks of a GIF: where its frames are and what they declare (GIF89a, appendix A). No pixel is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass

from imgserver.plan.geometry import Box

HEADER_BYTES = 13
IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B
CONTROL, APPLICATION = 0xF9, 0xFF
LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
# Bits of the packed fields.
COLOR_TABLE, TRANSPARENT = 0x80, 0x01
# What happens to the box of a frame before the next frame.
CLEAR, RESTORE = 2, 3


@dataclass(frozen=True, slots=True)
class GifFrame:
    """One frame. `control` is its graphic control extension (8 bytes), b"" without one. The offsets are those of its
    descriptor, of the size of its first code, and of the byte after its last block.

    `ends` is False for a frame inside which the file ends. `loop` is the extension for the number of repetitions, if it
    stands before this frame.
    """

    control: bytes
    box: Box
    descriptor: int
    data: int
    end: int
    ends: bool = True
    loop: bytes = b""

    @property
    def is_transparent(self) -> bool:
        """Whether one color of the frame is transparent."""
        return bool(self.control) and bool(self.control[3] & TRANSPARENT)

    @property
    def disposal(self) -> int:
        """CLEAR, RESTORE, or another value: the frame stays."""
        return self.control[3] >> 2 & 7 if self.control else 0

    def covers(self, box: Box) -> bool:
        """Whether the frame draws every pixel of `box`."""
        own = self.box
        return (
            not self.is_transparent
            and own.left <= box.left
            and own.top <= box.top
            and own.left + own.width >= box.left + box.width
            and own.top + own.height >= box.top + box.height
        )


def frames(body: bytes) -> Iterator[GifFrame]:
    """The frames in the order of the file, up to the trailer, the end of the file, or a block of an unknown kind.

    Only the last frame can lack its end. A descriptor or a graphic control extension that the file ends in, or after,
    is a frame without data.
    """
    at, control, loop = header_end(body), b"", b""
    while at < len(body):
        if body[at] == EXTENSION:
            end = _blocks_end(body, at + 2)
            label = body[at + 1] if at + 1 < len(body) else 0
            if label == CONTROL:
                control = body[at : at + 8]
            elif label == APPLICATION and body[at + 3 : at + 14] in LOOPS and body[at + 14 : at + 16] == b"\3\1":
                loop = body[at : at + 18] + b"\0"
        elif body[at] == IMAGE:
            data = at + 10 + color_table_bytes(body[at + 9]) if at + 10 <= len(body) else len(body)
            end = _blocks_end(body, data + 1)
            whole = control if len(control) == 8 else b""
            yield GifFrame(whole, _box(body, at), at, data, end or len(body), end is not None, loop)
            control, loop = b"", b""
        else:
            return
        at = end or len(body)
    if control:
        yield GifFrame(b"", Box(0, 0, 0, 0), at, at, at, ends=False)


def header_end(body: bytes) -> int:
    """The offset of the first block, after the screen descriptor and the global color table."""
    return HEADER_BYTES + color_table_bytes(body[10]) if len(body) >= HEADER_BYTES else len(body)


def color_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & COLOR_TABLE else 0


def screen(body: bytes) -> tuple[int, int]:
    """Width and height that the screen descriptor declares."""
    return int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")


def codes_of(body: bytes, frame: GifFrame) -> bytes:
    """The compressed pixels of a frame without the lengths of their blocks, as far as the file holds them."""
    parts, at = [], frame.data + 1
    while at < frame.end and (size := body[at]):
        parts.append(body[at + 1 : at + 1 + size])
        at += 1 + size
    return b"".join(parts)


def _box(body: bytes, at: int) -> Box:
    left, top, width, height = (int.from_bytes(body[at + skip : at + skip + 2], "little") for skip in (1, 3, 5, 7))
    return Box(left, top, width, height)


def _blocks_end(body: bytes, at: int) -> int | None:
    """The offset after the empty block that ends a sequence of sub-blocks; None if the file ends before."""
    try:
        while size := body[at]:
            at += 1 + size
    except IndexError:
        return None
    return at + 1
