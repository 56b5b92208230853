"""Reading what remains behind the options: which source, and which path in it."""

import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass

from imgserver.dialects.native.target import CONTROL, Target, Undecodable, decode
from imgserver.errors import BadSourcePath, SourceDenied
from imgserver.plan import SourceRef

SOURCE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
RESERVED = frozenset({"b64", "text"})
# One slash is enough: proxies merge two.
REMOTE = re.compile(r"https?:/", re.IGNORECASE)
BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The configured sources' names; `default` serves what names none."""

    sources: frozenset[str]
    default: str

    def __post_init__(self) -> None:
        bad = sorted(name for name in self.sources if not SOURCE_NAME.fullmatch(name) or name in RESERVED)
        if bad or self.default not in self.sources:
            raise ValueError(
                f"source names: {bad} are not allowed, and the default {self.default!r} must be one of them"
            )

    def read(self, target: Target) -> SourceRef:
        """Raises BadSourcePath for a path that is not well formed, SourceDenied for an address of another host."""
        raw = target.source
        if REMOTE.match(raw):
            if target.query:
                raise BadSourcePath("a query behind an address: write its ? as %3F")
            raise _denied()
        if raw.startswith("b64/"):
            return self._local(_base64(raw.removeprefix("b64/")))
        try:
            return self._local(decode(raw))
        except Undecodable as error:
            raise BadSourcePath(f"the source path holds {error}") from None

    def named(self, path: str) -> SourceRef:
        """A path as people write it, unchecked: its first name may be another source's, never the default's own."""
        first, slash, rest = path.partition("/")
        if slash and first in self.sources and first != self.default:
            return SourceRef(first, rest)
        return SourceRef(self.default, path)

    def _local(self, path: str) -> SourceRef:
        if REMOTE.match(path):
            raise _denied()
        if "\\" in path:
            raise BadSourcePath("the source path holds a backslash")
        names = path.split("/")
        if path == "":
            raise BadSourcePath("there is no source behind the options")
        if not all(names) or "." in names or ".." in names:
            raise BadSourcePath("the source path holds an empty name, . or ..")
        if len(names) > 1 and names[0] in self.sources:
            return SourceRef(names[0], "/".join(names[1:]))
        return SourceRef(self.default, path)


def _base64(raw: str) -> str:
    """Decoded once: what comes out is an address or a path, and is not decoded again."""
    text = raw.replace("/", "")
    if not BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise BadSourcePath("b64 wants base64url without padding")
    try:
        path = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except UnicodeDecodeError:
        raise BadSourcePath("b64 holds bytes that are not UTF-8") from None
    if CONTROL.search(path):
        raise BadSourcePath("the source path holds a control character")
    return path


def _denied() -> SourceDenied:
    return SourceDenied("addresses of other hosts are not served: no remote source is configured")
