"""Whether a GIF holds all the frames it began.

libvips shows the frames that came before a cut and calls that a success, whatever `fail_on` says. So the file's blocks
are walked here, by their lengths alone (GIF89a, appendix A).
"""

from typing import BinaryIO

HEADER_BYTES = 13
DESCRIPTOR_BYTES = 9
IMAGE, EXTENSION = b",", b"!"


class _Cut(Exception):
    """The file ends inside a block."""


def gif_is_complete(file: BinaryIO) -> bool:
    """False if the file ends inside a block. A missing trailer is forgiven, as browsers forgive it: nothing of the
    pictures is missing. What cannot be understood counts as whole: libvips will say what is wrong with it."""
    try:
        _skip_colours(file, _taken(file, HEADER_BYTES)[10])
        while _skip_block(file):
            pass
    except _Cut:
        return False
    return True


def _skip_block(file: BinaryIO) -> bool:
    """False behind the last block."""
    kind = file.read(1)
    if kind == IMAGE:
        _skip_colours(file, _taken(file, DESCRIPTOR_BYTES)[8])
    elif kind != EXTENSION:
        return False
    _taken(file, 1)  # the extension's label, or the size of the image's first code
    _skip_parts(file)
    return True


def _skip_parts(file: BinaryIO) -> None:
    while size := _taken(file, 1)[0]:
        _taken(file, size)


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        _taken(file, 3 << (flags & 7) + 1)


def _taken(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise _Cut
    return data
