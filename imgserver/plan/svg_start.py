"""Whether a file begins as an SVG does: after XML declarations, comments and a DOCTYPE comes the root element `svg`.

The root may have a namespace prefix, the text may be UTF-8 (or any superset of ASCII) or UTF-16, and the whole file may
be compressed with gzip (SVGZ). Nothing here raises, and the time is linear in the length of the head.
"""

import re
import zlib

GZIP = b"\x1f\x8b\x08"
GZIP_WBITS = 31
UTF_16_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
UTF_16_STARTS = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
UTF_8_MARK = b"\xef\xbb\xbf"

BLANK = re.compile(rb"\s*+")
ROOT = re.compile(rb"<(?:[\w.-]{1,64}:)?svg[\s/>]")
# The document type of an SVG, with an internal subset. Possessive quantifiers keep the time linear.
DOCTYPE_START = re.compile(rb"<!DOCTYPE\s++(?:[\w.-]{1,64}:)?svg[\s\[>]")
DOCTYPE = re.compile(
    rb"""(?sx) <!DOCTYPE\s++ (?: [^\[>"']++ | "[^"]*+" | '[^']*+' )*+
    (?: \[ (?: [^\]<"']++ | "[^"]*+" | '[^']*+' | <!--.*?--> | <\?.*?\?> | <(?!!--|\?) )*+ \] \s*+ )?+ >"""
)


def is_svg(head: bytes, *, head_bytes: int) -> bool:
    """Whether `head`, the first `head_bytes` bytes of a file or all of it, begins an SVG.

    A head that ends inside the text before the root counts as an SVG: the parser decides by the root.
    """
    text = _decoded(_inflated(head, head_bytes))
    begun = _after_prolog(text)
    if begun is None:
        return len(head) >= head_bytes
    return ROOT.match(text, begun) is not None


def _inflated(head: bytes, head_bytes: int) -> bytes:
    if not head.startswith(GZIP):
        return head
    try:
        return zlib.decompressobj(GZIP_WBITS).decompress(head, head_bytes)
    except zlib.error:
        return b""


def utf_16_of(head: bytes) -> str:
    """The codec of a text in UTF-16, by its byte order mark or its first character; "" for another encoding."""
    return UTF_16_MARKS.get(head[:2]) or UTF_16_STARTS.get(head[:2], "")


def _decoded(head: bytes) -> bytes:
    """The text as ASCII. Other characters do not matter here."""
    if codec := utf_16_of(head):
        return head.decode(codec, "replace").removeprefix("\ufeff").encode("ascii", "replace")
    return head.removeprefix(UTF_8_MARK)


def _after_prolog(text: bytes) -> int | None:
    """The offset of the root element, or of what cannot be in front of one; None if the text ends before it."""
    at: int | None = 0
    while at is not None:
        at = _skip_blank(text, at)
        if text.startswith(b"<?", at):
            at = _after(b"?>", text, at + 2)
        elif text.startswith(b"<!--", at):
            at = _after(b"-->", text, at + 4)
        elif DOCTYPE_START.match(text, at):
            doctype = DOCTYPE.match(text, at)
            at = doctype.end() if doctype else None
        else:
            return at
    return None


def _skip_blank(text: bytes, at: int) -> int:
    found = BLANK.match(text, at)
    return found.end() if found else at


def _after(closing: bytes, text: bytes, at: int) -> int | None:
    end = text.find(closing, at)
    return None if end < 0 else end + len(closing)
