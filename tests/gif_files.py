"""GIF files for tests: written block by block (GIF89a), and composed as browsers show them, without a decoder."""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

Pixel = tuple[int, int, int, int]
CLEAR: Pixel = (0, 0, 0, 0)
KEEP, TO_BACKGROUND, TO_PREVIOUS = 1, 2, 3


@dataclass(frozen=True)
class Frame:
    """`pixels` are indexes into `palette`, row by row. `local`: the palette is written with the frame."""

    box: tuple[int, int, int, int]
    pixels: bytes
    palette: Sequence[tuple[int, int, int]]
    transparent: int | None = None
    disposal: int = 0
    local: bool = False
    interlaced: bool = False
    end_code: bool = True
    control: bool = True
    delay: int = 10


@dataclass(frozen=True)
class Movie:
    size: tuple[int, int]
    frames: Sequence[Frame]
    background: int = 0
    palette: Sequence[tuple[int, int, int]] = field(default_factory=list)

    def file(self, *, trailer: bytes = b";") -> bytes:
        table = b"".join(map(bytes, self.palette))
        flags = 0x80 | (_bits(self.palette) - 1) if self.palette else 0
        screen = struct.pack("<HHBBB", *self.size, flags, self.background, 0)
        return b"GIF89a" + screen + table + b"".join(map(_frame, self.frames)) + trailer

    def shown(self) -> list[list[Pixel]]:
        """What browsers show for each frame. The background color of the screen is not used."""
        width, height = self.size
        canvas, shown = [CLEAR] * (width * height), []
        for frame in self.frames:
            before, (left, top, wide, high) = list(canvas), frame.box
            places = [(top + y) * width + left + x for y in range(high) for x in range(wide)]
            for place, index in zip(places, frame.pixels, strict=True):
                if index != frame.transparent:
                    canvas[place] = (*frame.palette[index], 255)
            shown.append(list(canvas))
            if frame.disposal == TO_BACKGROUND:
                for place in places:
                    canvas[place] = CLEAR
            elif frame.disposal == TO_PREVIOUS:
                canvas = before
        return shown


def random_movie(seed: int) -> Movie:
    """A small movie of one to four frames, in which every feature of the format occurs."""
    rng = random.Random(seed)
    size = rng.randint(1, 20), rng.randint(1, 20)
    palette = _palette(rng, rng.choice((1, 2, 3, 8)))
    has_global = rng.random() < 0.8
    frames = [_random_frame(rng, size, palette, has_global=has_global) for _ in range(rng.randint(1, 4))]
    return Movie(size, frames, rng.randrange(len(palette)), palette if has_global else [])


def _random_frame(
    rng: random.Random, size: tuple[int, int], palette: list[tuple[int, int, int]], *, has_global: bool
) -> Frame:
    left, top = rng.randrange(size[0]), rng.randrange(size[1])
    box = left, top, rng.randint(1, size[0] - left), rng.randint(1, size[1] - top)
    if rng.random() < 0.4:
        box = 0, 0, *size
    local = not has_global or rng.random() < 0.3
    if local:
        palette = _palette(rng, rng.choice((1, 2, 8)))
    transparent = rng.randrange(len(palette)) if rng.random() < 0.4 else None
    control = transparent is not None or rng.random() < 0.8
    return Frame(
        box,
        bytes(rng.randrange(len(palette)) for _ in range(box[2] * box[3])),
        palette,
        transparent,
        rng.choice((0, KEEP, TO_BACKGROUND, TO_PREVIOUS)) if control else 0,
        local,
        interlaced=rng.random() < 0.3,
        end_code=rng.random() < 0.5,
        control=control,
    )


def _palette(rng: random.Random, bits: int) -> list[tuple[int, int, int]]:
    return [(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(1 << bits)]


def _bits(palette: Sequence[object]) -> int:
    return max(1, (len(palette) - 1).bit_length())


def _frame(frame: Frame) -> bytes:
    flags = (0x80 | (_bits(frame.palette) - 1) if frame.local else 0) | 0x40 * frame.interlaced
    packed = frame.disposal << 2 | (frame.transparent is not None)
    control = b"!\xf9\4" + struct.pack("<BHBB", packed, frame.delay, frame.transparent or 0, 0)
    table = b"".join(map(bytes, frame.palette)) if frame.local else b""
    bits = max(2, _bits(frame.palette))
    data = blocks(codes(_ordered(frame), bits, end_code=frame.end_code))
    return control * frame.control + b"," + struct.pack("<HHHHB", *frame.box, flags) + table + bytes((bits,)) + data


def _ordered(frame: Frame) -> bytes:
    _, _, width, height = frame.box
    rows = range(height)
    if frame.interlaced:
        rows = [*rows[::8], *rows[4::8], *rows[2::4], *rows[1::2]]
    return b"".join(frame.pixels[row * width : (row + 1) * width] for row in rows)


def blocks(data: bytes) -> bytes:
    """The data in sub-blocks, with the empty block that ends them."""
    return (
        b"".join(bytes((len(part),)) + part for at in range(0, len(data), 255) if (part := data[at : at + 255])) + b"\0"
    )


def codes(pixels: bytes, bits: int, *, end_code: bool = True) -> bytes:
    """The pixels compressed (GIF89a, appendix F)."""
    clear, known, size = 1 << bits, {bytes((value,)): value for value in range(1 << bits)}, bits + 1
    following, written, string = clear + 2, [(clear, size)], b""
    for pixel in pixels:
        longer = string + bytes((pixel,))
        if longer in known:
            string = longer
            continue
        written.append((known[string], size))
        known[longer] = following
        size += following == 1 << size
        following += 1
        string = bytes((pixel,))
    if string:
        written.append((known[string], size))
    if end_code:
        written.append((clear + 1, size))
    value = shift = 0
    for code, width in written:
        value, shift = value | code << shift, shift + width
    return value.to_bytes((shift + 7) // 8, "little")
