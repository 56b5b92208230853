"""Reading what remains behind the options: which source, and which path in it."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from imgserver.dialects.native.lexer import CONTROL, Target, Undecodable, decode
from imgserver.errors import BadSourcePath, SourceDenied
from imgserver.plan.plan import SourceRef
from imgserver.security.remote_url import REMOTE, is_address, parse

SOURCE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
RESERVED = frozenset({"b64", "text"})
BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The configured sources' names; `default` serves what names none. `remote`: addresses are read, too.

    Which hosts are allowed is the remote source's business.
    """

    sources: frozenset[str]
    default: str
    remote: bool = False

    def __post_init__(self) -> None:
        bad = sorted(name for name in self.sources if not SOURCE_NAME.fullmatch(name) or name in RESERVED)
        if bad or self.default not in self.sources:
            raise ValueError(
                f"source names: {bad} are not allowed, and the default {self.default!r} must be one of them"
            )

    def read(self, target: Target) -> SourceRef:
        """Raises BadSourcePath for what is not well formed, SourceDenied for an address without a remote source."""
        raw = target.source
        if is_address(raw):
            # As it stands: `%20` is a part of it, and so is `%3F`, which is no `?` there.
            if target.query:
                raise BadSourcePath("a query behind an address: percent-encode the whole address, or write it as b64/")
            return self._remote(raw)
        if raw.startswith("b64/"):
            return self._decoded(_base64(raw.removeprefix("b64/")))
        try:
            return self._decoded(decode(raw))
        except Undecodable as error:
            raise BadSourcePath(f"the source path holds {error}") from None

    def _decoded(self, text: str) -> SourceRef:
        return self._remote(text) if is_address(text) else self._local(text)

    def _remote(self, address: str) -> SourceRef:
        if not self.remote:
            detail = "addresses of other hosts are not served: no remote source is configured"
            raise SourceDenied(detail, reason="no_remote")
        return SourceRef(REMOTE, str(parse(address)))

    def named(self, path: str) -> SourceRef:
        """A path as people write it, unchecked: its first name may be another source's, never the default's own.

        An address is read, where addresses are served. Raises BadSourcePath for one that is not well formed.
        """
        if self.remote and is_address(path):
            return self._remote(path)
        first, slash, rest = path.partition("/")
        if slash and first in self.sources and first != self.default:
            return SourceRef(first, rest)
        return SourceRef(self.default, path)

    def _local(self, path: str) -> SourceRef:
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


def spell_remote(address: str) -> str:
    """The one of the three spellings that no proxy rewrites."""
    return "b64/" + urlsafe_b64encode(address.encode()).decode().rstrip("=")
