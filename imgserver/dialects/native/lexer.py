"""Splits a request target into signature, option segments and source. Everything is split before it is decoded.

A signature covers the bytes as they were received. Only what comes after its check is normalized, so that what is
executed always follows from what was signed.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.settings import NativeSettings
from imgserver.errors import BadOption, BadRequest, NotFound, TargetTooLong

STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
VISIBLE = re.compile(r"[\x21-\x7e]*")
# All single letters are reserved, so that a future option of one letter changes the meaning of no URL.
OPTION_SHAPED = re.compile("(?:[a-z]|" + "|".join(key for key in OPTIONS if len(key) > 1) + ")_")
ENCODED_BYTE = re.compile(r"%[0-9A-Fa-f]{2}")
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
SIGNATURE = re.compile(r"s--.*--")
END_OF_OPTIONS = "_"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A target whose options are not read yet. `mac` is the signature, `rest` the path that it covers, `at` the offset
    of that path in the target. `query` begins with its question mark; "" if the target has none."""

    mac: str | None
    rest: str
    at: int
    query: str


@dataclass(frozen=True, slots=True)
class RawSegment:
    """The text of one segment of options. `at` is its offset in the target; the segments of a preset all have the
    offset of the preset's name."""

    text: str
    at: int
    preset: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """`source` is the text after the options, not decoded. `escaped`: `_/` precedes it.

    `signed`: with a valid signature. Some URLs of other hosts are denied without one.
    """

    segments: tuple[RawSegment, ...]
    source: str
    signed: bool
    escaped: bool
    query: bool


class Undecodable(Exception):
    """Percent-encoding that gives no valid text. The message says why."""


def split_signature(raw_target: str, settings: NativeSettings, *, mount: str) -> Envelope:
    """Raises TargetTooLong, BadRequest, and NotFound for a target that is not under the mount."""
    _check(raw_target, settings, mount)
    path, question, query = raw_target.partition("?")
    first, slash, rest = path[len(mount) :].partition("/")
    if slash and SIGNATURE.fullmatch(first):
        mac = first.removeprefix("s--").removesuffix("--")
        return Envelope(mac, rest, len(mount) + len(first) + 1, question + query)
    return Envelope(None, path[len(mount) :], len(mount), question + query)


def split_segments(envelope: Envelope, settings: NativeSettings) -> Target:
    """Call this after the signature is checked. Raises BadOption for too many segments."""
    parts = envelope.rest.split("/")
    at = envelope.at
    segments: list[RawSegment] = []
    # The last part is never a segment of options.
    while len(parts) > 1 and is_options(text := normalized(parts[0])):
        segments.append(RawSegment(text, at))
        at += len(parts.pop(0)) + 1
        if len(segments) > settings.max_segments:
            raise BadOption(f"more than {settings.max_segments} option segments", at=segments[-1].at)
    escaped = len(parts) > 1 and normalized(parts[0]) == END_OF_OPTIONS
    source = "/".join(parts[1:] if escaped else parts)
    return Target(tuple(segments), source, envelope.mac is not None, escaped, bool(envelope.query))


def is_options(part: str) -> bool:
    """Whether a part of the path is a segment of options: at least one piece of it looks like an option."""
    return any(map(OPTION_SHAPED.match, part.split(",")))


def normalized(part: str) -> str:
    """The part of a path with its percent-encoded letters, digits, `-`, `.`, `_` and `~` decoded once: both forms are
    equal (RFC 3986, 6.2.2.2). A part with a stray percent sign is unchanged, and refused later."""
    if "%" not in part or STRAY_PERCENT.search(part):
        return part
    return ENCODED_BYTE.sub(_unreserved, part)


def _unreserved(encoded: re.Match[str]) -> str:
    character = chr(int(encoded[0][1:], 16))
    return character if UNRESERVED.fullmatch(character) else encoded[0]


def decode(text: str) -> str:
    """Percent-decodes once. A `+` is a plus. Raises Undecodable."""
    if "%" not in text:
        return text
    if STRAY_PERCENT.search(text):
        raise Undecodable("a % without two hex digits; a percent sign itself is %25")
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Undecodable("percent-encoded bytes that are not UTF-8") from None
    if CONTROL.search(decoded):
        raise Undecodable("a control character")
    return decoded


def _check(raw_target: str, settings: NativeSettings, mount: str) -> None:
    if len(raw_target) > settings.max_target_bytes:
        raise TargetTooLong(f"the URL is over {settings.max_target_bytes} bytes")
    if not VISIBLE.fullmatch(raw_target):
        raise BadRequest("a URL is visible ASCII; anything else is percent-encoded")
    if not raw_target.startswith(mount):
        raise NotFound(f"images are under {mount}")
    if "#" in raw_target:
        raise BadRequest("a # ends a URL; in a file name it is %23")
