"""The boxes of the container of AVIF and HEIC (ISO/IEC 14496-12, 4.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# Boxes that are read of one file. No real file has more; a hostile one can nest millions.
MAX_BOXES = 5_000


@dataclass(frozen=True, slots=True)
class FileBox:
    """A box: its type, where its content begins in the file, and where it ends.

    `whole` is False if it declares an end beyond the box around it, or beyond the file; `end` is then that of
    the other.
    """

    kind: bytes
    start: int
    end: int
    whole: bool = True


class BoxReader:
    """Finds boxes by their types. Reads MAX_BOXES at most, and then finds nothing more."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.root = FileBox(b"", 0, file.seek(0, 2))
        self._budget = MAX_BOXES

    @property
    def exhausted(self) -> bool:
        """Whether there may be boxes that were not found because of the limit."""
        return self._budget <= 0

    def inside(self, parent: FileBox, *, skip: int = 0) -> Iterator[FileBox]:
        """The boxes in `parent`, after `skip` bytes of fields; nothing after one that cannot be parsed."""
        at = parent.start + skip
        while at + 8 <= parent.end and self._budget > 0:
            self._budget -= 1
            kind, header, length = self._header(at, parent.end)
            if length < header:
                return
            yield FileBox(kind, at + header, min(at + length, parent.end), whole=at + length <= parent.end)
            at += length

    def find(self, parent: FileBox, *path: bytes) -> Iterator[FileBox]:
        """The boxes at `path` below `parent`. There may be several of each type on the way."""
        for box in self.inside(parent):
            if box.kind == path[0]:
                yield from self.find(box, *path[1:]) if path[1:] else (box,)

    def content(self, box: FileBox, limit: int) -> bytes:
        """The first `limit` bytes of the content."""
        self.file.seek(box.start)
        return self.file.read(min(limit, box.end - box.start))

    def _header(self, at: int, end: int) -> tuple[bytes, int, int]:
        """The type, the length of the header, and that of the box; a length of 0 if the header is truncated."""
        self.file.seek(at)
        head = self.file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            return head[4:8], 16, int.from_bytes(head[8:16], "big") if len(head) == 16 else 0
        return head[4:8], 8, length or end - at  # 0: to the end of the file
