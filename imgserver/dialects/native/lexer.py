"""Cutting a request target into signature, option segments and source. Everything is cut before it is decoded."""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.settings import NativeSettings
from imgserver.errors import BadOption, BadRequest, NotFound, TargetTooLong

STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
VISIBLE = re.compile(r"[\x21-\x7e]*")
# Every single letter is reserved, so that a later option of one letter changes no URL's meaning.
OPTION_SHAPED = re.compile("(?:[a-z]|" + "|".join(key for key in OPTIONS if len(key) > 1) + ")_")
SIGNATURE = re.compile(r"s--.*--")
END_OF_OPTIONS = "_"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A target before anything in it is read: `mac` is the signature, `rest`, at offset `at`, what it covers."""

    mac: str | None
    rest: str
    at: int
    query: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """`at` is its offset in the target; one from a preset lies as a whole where the preset is named."""

    text: str
    at: int
    preset: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """`source` is what remains, not decoded; `escaped` tells that `_` stood before it.

    `signed`: with a signature that fits. An address that only signed URLs may name is denied without one.
    """

    segments: tuple[Segment, ...]
    source: str
    signed: bool
    escaped: bool
    query: bool


class Undecodable(Exception):
    """A percent-encoding that is no clean text; the message says why."""


def unseal(raw_target: str, settings: NativeSettings, *, mount: str) -> Envelope:
    """Raises TargetTooLong, BadRequest, and NotFound for what is not under the mount."""
    _check(raw_target, settings, mount)
    path, question, _ = raw_target.partition("?")
    first, slash, rest = path[len(mount) :].partition("/")
    if slash and SIGNATURE.fullmatch(first):
        mac = first.removeprefix("s--").removesuffix("--")
        return Envelope(mac, rest, len(mount) + len(first) + 1, bool(question))
    return Envelope(None, path[len(mount) :], len(mount), bool(question))


def cut(envelope: Envelope, settings: NativeSettings) -> Target:
    """Of an envelope whose signature has been looked at. Raises BadOption."""
    parts = envelope.rest.split("/")
    at = envelope.at
    segments: list[Segment] = []
    # The last part is never an options segment.
    while len(parts) > 1 and is_options(parts[0]):
        segments.append(Segment(parts[0], at))
        at += len(parts.pop(0)) + 1
        if len(segments) > settings.max_segments:
            raise BadOption(f"more than {settings.max_segments} option segments", at=segments[-1].at)
    escaped = len(parts) > 1 and parts[0] == END_OF_OPTIONS
    source = "/".join(parts[1:] if escaped else parts)
    return Target(tuple(segments), source, envelope.mac is not None, escaped, envelope.query)


def is_options(segment: str) -> bool:
    return any(map(OPTION_SHAPED.match, segment.split(",")))


def decode(text: str) -> str:
    """Percent-decoded once, strictly. `+` is a plus. Raises Undecodable."""
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
        raise NotFound(f"pictures are under {mount}")
    if "#" in raw_target:
        raise BadRequest("a # ends a URL; in a file name it is %23")
