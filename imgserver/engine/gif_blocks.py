"""The blocks of a GIF: where its frames are and what they declare (GIF89a, appendix A). No pixel is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass

from imgserver.plan.geometry import Box

HEADER_BYTES = 13
IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B
CONTROL = 0xF9
# Bits of the packed fields.
COLOR_TABLE, TRANSPARENT = 0x80, 0x01


@dataclass(frozen=True, slots=True)
class GifFrame:
    """One frame. `control` is its graphic control extension (8 bytes), b"" without one. The offsets are those of its
    descriptor, of the size of its first code, and of the byte after its last block.

    `ends` is False for a frame inside which the file ends.
    """

    control: bytes
    box: Box
    descriptor: int
    data: int
    end: int
    ends: bool = True

    @property
    def transparent(self) -> bool:
        """Whether one color of the frame is transparent."""
        return bool(self.control) and bool(self.control[3] & TRANSPARENT)

    @property
    def disposal(self) -> int:
        """What happens to the frame's box before the next frame: 2 clears it, 3 restores it, other values keep it."""
        return self.control[3] >> 2 & 7 if self.control else 0


def frames(body: bytes) -> Iterator[GifFrame]:
    """The frames in the order of the file, up to the trailer, the end of the file, or a block of an unknown kind.

    Only the last frame can lack its end. A frame without a whole descriptor is none.
    """
    at, control = header_end(body), b""
    while at + 1 < len(body):
        if body[at] == EXTENSION:
            end = _blocks_end(body, at + 2)
            if body[at + 1] == CONTROL and end is not None and end - at == 8:
                control = body[at:end]
        elif body[at] == IMAGE and at + 10 <= len(body):
            data = at + 10 + color_table_bytes(body[at + 9])
            end = _blocks_end(body, data + 1)
            yield GifFrame(control, _box(body, at), at, data, end or len(body), ends=end is not None)
            control = b""
        else:
            return
        if end is None:
            return
        at = end


def header_end(body: bytes) -> int:
    """The offset of the first block, after the screen descriptor and the global color table."""
    return HEADER_BYTES + color_table_bytes(body[10]) if len(body) >= HEADER_BYTES else len(body)


def color_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & COLOR_TABLE else 0


def screen(body: bytes) -> tuple[int, int]:
    """Width and height that the screen descriptor declares."""
    return int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")


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
