"""Whether a GIF holds all the frames that it began.

libvips shows the frames before the end of a truncated file and reports success, whatever `fail_on` says. This module
walks the blocks of the file by their lengths alone (GIF89a, appendix A).
"""

from typing import BinaryIO

HEADER_BYTES = 13
DESCRIPTOR_BYTES = 9
IMAGE, EXTENSION = b",", b"!"


class _Truncated(Exception):
    """The file ends inside a block."""


def is_complete(file: BinaryIO) -> bool:
    """False if the file ends inside a block.

    A file without a trailer counts as complete, as in browsers: no pixel is missing. So does a file that cannot be
    parsed: libvips will report what is wrong with it.
    """
    try:
        _skip_color_table(file, _read(file, HEADER_BYTES)[10])
        while _skip_block(file):
            pass
    except _Truncated:
        return False
    return True


def _skip_block(file: BinaryIO) -> bool:
    """False after the last block."""
    kind = file.read(1)
    if kind == IMAGE:
        _skip_color_table(file, _read(file, DESCRIPTOR_BYTES)[8])
    elif kind != EXTENSION:
        return False
    _read(file, 1)  # the label of the extension, or the size of the first code of the image
    _skip_sub_blocks(file)
    return True


def _skip_sub_blocks(file: BinaryIO) -> None:
    while size := _read(file, 1)[0]:
        _read(file, size)


def _skip_color_table(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        _read(file, 3 << (flags & 7) + 1)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise _Truncated
    return data
