"""How many frames a file holds, by its structure: no pixel is decoded, and libvips is not loaded.

GIF and WebP are walked block by block, because their headers do not give the number. An animated PNG declares it in
`acTL` (PNG, third edition, 11.3.6.1), an AVIF or HEIC sequence in the sample table of its track (ISO/IEC 14496-12,
8.7.3).
"""

from collections.abc import Callable
from itertools import islice
from typing import BinaryIO

from imgserver.engine import gif_blocks
from imgserver.engine.isobmff import BoxReader
from imgserver.plan.sniffing import HEAD_BYTES, format_of
from imgserver.runtime.resources import MIB

# A file with more frames than the largest limit is refused: its frames are not counted further.
MAX_FRAMES = 10_001
# A longer GIF is counted in its first bytes, and the number is projected to its length.
MAX_GIF_BYTES = 4 * MIB
# Chunks of a PNG before its pixels.
MAX_CHUNKS = 2_000
# The boxes around the table of the sizes of a track's samples.
SAMPLE_SIZES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
MAX_TRACKS = 8


def count_frames(path: str) -> int:
    """The number of frames of an animation, 1 for any other file; at most MAX_FRAMES. Reads at most MAX_GIF_BYTES.

    Never raises for the content of the file: a part that cannot be parsed holds no frames. Raises OSError. Pages of a
    TIFF and images of a HEIC collection are no frames.
    """
    with open(path, "rb") as file:  # noqa: PTH123
        return frames_of(file)


def frames_of(file: BinaryIO) -> int:
    """The same for an open file, which is read from its start."""
    file.seek(0)
    counter = COUNTERS.get(format_of(file.read(HEAD_BYTES)))
    if counter is None:
        return 1
    file.seek(0)
    return min(max(1, counter(file)), MAX_FRAMES)


def _gif(file: BinaryIO) -> int:
    body = file.read(MAX_GIF_BYTES)
    frames, end = 0, 0
    for frame in gif_blocks.frames(body):
        frames, end = frames + frame.ends, frame.end
        if frames == MAX_FRAMES:
            return frames
    size = file.seek(0, 2)
    return frames if size <= len(body) or not end else frames * size // end


def _webp(file: BinaryIO) -> int:
    frames, at = 0, 12
    for _ in range(2 * MAX_FRAMES):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        frames += head[:4] == b"ANMF"
        at += 8 + (int.from_bytes(head[4:], "little") + 1 & ~1)
    return frames


def _png(file: BinaryIO) -> int:
    at = 8
    for _ in range(MAX_CHUNKS):
        file.seek(at)
        head = file.read(12)
        if len(head) < 12 or head[4:8] in (b"IDAT", b"IEND"):
            break
        if head[4:8] == b"acTL":
            return int.from_bytes(head[8:], "big")
        at += 12 + int.from_bytes(head[:4], "big")
    return 1


def _isobmff(file: BinaryIO) -> int:
    """The samples of the longest track; the alpha channel of a sequence has a track of its own."""
    reader = BoxReader(file)
    tables = islice(reader.find(reader.root, *SAMPLE_SIZES), MAX_TRACKS)
    # `sample_count` follows the version, the flags and `sample_size`.
    return max((int.from_bytes(reader.content(table, 12)[8:], "big") for table in tables), default=1)


COUNTERS: dict[str, Callable[[BinaryIO], int]] = {
    "gif": _gif,
    "webp": _webp,
    "png": _png,
    "avif": _isobmff,
    "heic": _isobmff,
}
