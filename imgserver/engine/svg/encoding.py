"""The text of an XML file in UTF-8, whatever its encoding and compression."""

import codecs
import re
import zlib

from imgserver.engine.job import over
from imgserver.errors import BrokenImage, UnsupportedImage
from imgserver.plan.svg_start import GZIP, GZIP_WBITS, UTF_8_MARK, utf_16_of

DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]{1,40})["']""")
# Python's names of character encodings. Its other codecs are none of XML (`idna`, `unicode_escape`, `zip`).
MULTI_BYTE = frozenset(
    {"utf-8", "ascii", "gbk", "gb2312", "gb18030", "hz", "big5", "big5hkscs", "cp932", "cp936", "cp949", "cp950"}
    | {"euc_jp", "euc_kr", "shift_jis", "iso2022_jp", "iso2022_kr", "koi8-r", "koi8-u", "cp866", "mac-roman"}
)
EIGHT_BIT = re.compile(r"iso8859-\d{1,2}|cp12\d\d")


def text_of_xml(data: bytes, *, limit: int) -> bytes:
    """The text, at most `limit` bytes of it inflated. Raises BrokenImage, UnsupportedImage and ImageOverLimit."""
    data = _inflated(data, limit)
    if len(data) > limit:
        raise over("svg text bytes", len(data), limit)
    if data.startswith(UTF_8_MARK):
        return data
    codec = utf_16_of(data) or _declared(data)
    if codec == "utf-8":
        return data
    try:
        return data.decode(codec).removeprefix("\ufeff").encode("utf-8")
    except UnicodeError as error:
        raise BrokenImage(f"the SVG is not valid {codec}") from error


def _inflated(data: bytes, limit: int) -> bytes:
    if not data.startswith(GZIP):
        return data
    inflater = zlib.decompressobj(GZIP_WBITS)
    try:
        text = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise BrokenImage("the gzip stream of the SVG is corrupt") from error
    if len(text) <= limit and not inflater.eof:
        raise BrokenImage("the gzip stream of the SVG is truncated")
    return text


def _declared(data: bytes) -> str:
    declared = DECLARED.match(data.lstrip())
    if declared is None:
        return "utf-8"
    label = declared[1].decode("ascii", "replace")
    try:
        name = codecs.lookup(label).name
    except LookupError:
        name = ""
    # A declaration that can be read byte by byte is not in UTF-16, whatever it says.
    if name.startswith("utf-16"):
        return "utf-8"
    if name not in MULTI_BYTE and not EIGHT_BIT.fullmatch(name):
        raise UnsupportedImage(f'an SVG in the encoding "{label}" cannot be read here', format="svg")
    return name
