"""Response heads that aiohttp's parser refuses, although RFC 9110, 8.6 allows to accept them: equal Content-Lengths."""

# A longer line goes to the parser as it is, which refuses it.
MAX_LINE_BYTES = 1 << 15
NAME = b"content-length"


class HeadFilter:
    """Takes the bytes of one response as they arrive, and returns them with repeated equal Content-Lengths reduced to
    one. Different ones stay, so that the parser refuses them. Holds back an incomplete line of the head."""

    def __init__(self) -> None:
        self._in_head = True
        self._pending = b""
        self._first = True
        self._informational = False
        self._length: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        if not self._in_head:
            return data
        *lines, pending = (self._pending + data).split(b"\n")
        self._pending = b""
        passed = []
        for number, line in enumerate(lines):
            if (filtered := self._filtered(line)) is not None:
                passed.append(filtered + b"\n")
            if not self._in_head:
                return b"".join(passed) + b"\n".join([*lines[number + 1 :], pending])
        if len(pending) > MAX_LINE_BYTES:
            self._in_head = False
            return b"".join(passed) + pending
        self._pending = pending
        return b"".join(passed)

    def _filtered(self, line: bytes) -> bytes | None:
        """The line without its break; None for a line that is dropped."""
        if self._first:
            # A head of status 1xx is followed by another head.
            self._first, self._informational = False, line.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1"))
            return line
        if line in (b"", b"\r"):
            self._in_head, self._first, self._length = self._informational, True, None
            return line
        name, colon, value = line.partition(b":")
        if not colon or name.lower() != NAME:
            return line
        lengths = {part.strip() for part in value.split(b",")}
        length = lengths.pop()
        if lengths or not length.isdigit() or self._length not in (None, length):
            return line
        if self._length == length:
            return None
        self._length = length
        return name + b": " + length + b"\r"
