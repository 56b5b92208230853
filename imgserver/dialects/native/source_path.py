"""The text after the options: which source, and which path in it."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from imgserver.dialects.native.lexer import CONTROL, Target, Undecodable, decode
from imgserver.errors import BadSourcePath, SourceDenied
from imgserver.plan.plan import SourceRef
from imgserver.security.remote_url import REMOTE, is_remote_url, parse

SOURCE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
RESERVED = frozenset({"b64", "text"})
BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class SourcePaths:
    """The names of the configured sources. `default` serves paths that name no source. `remote`: URLs of other hosts
    are accepted; the remote source decides which hosts are allowed.
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

    def parse(self, target: Target) -> SourceRef:
        """Raises BadSourcePath for a malformed path, and SourceDenied for a URL of another host without a remote
        source."""
        raw = target.source
        if is_remote_url(raw):
            # A URL is not decoded: `%20` is a part of it, and so is `%3F`, which is no `?` there.
            if target.query:
                raise BadSourcePath("the source URL has a query: percent-encode the whole URL, or write it as b64/")
            return self._remote(raw)
        if raw.startswith("b64/"):
            return self._decoded(_base64(raw.removeprefix("b64/")))
        try:
            return self._decoded(decode(raw))
        except Undecodable as error:
            raise BadSourcePath(f"the source path contains {error}") from None

    def _decoded(self, text: str) -> SourceRef:
        return self._remote(text) if is_remote_url(text) else self._local(text)

    def _remote(self, url: str) -> SourceRef:
        if not self.remote:
            detail = "URLs of other hosts are not served: no remote source is configured"
            raise SourceDenied(detail, reason="no_remote")
        return SourceRef(REMOTE, str(parse(url)))

    def resolve(self, path: str) -> SourceRef:
        """The original that an unchecked path means. Its first folder may name a source, but not the default source.

        A URL is parsed if the server serves other hosts. Raises BadSourcePath for a malformed one.
        """
        if self.remote and is_remote_url(path):
            return self._remote(path)
        first, slash, rest = path.partition("/")
        if slash and first in self.sources and first != self.default:
            return SourceRef(first, rest)
        return SourceRef(self.default, path)

    def _local(self, path: str) -> SourceRef:
        if "\\" in path:
            raise BadSourcePath("the source path contains a backslash")
        names = path.split("/")
        if path == "":
            raise BadSourcePath("no source follows the options")
        if not all(names) or "." in names or ".." in names:
            raise BadSourcePath("the source path contains an empty name, . or ..")
        if len(names) > 1 and names[0] in self.sources:
            return SourceRef(names[0], "/".join(names[1:]))
        return SourceRef(self.default, path)


def _base64(raw: str) -> str:
    """Decodes base64url. The result is a URL or a path, and is not percent-decoded."""
    text = raw.replace("/", "")
    if not BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise BadSourcePath("b64 needs base64url without padding")
    try:
        path = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except UnicodeDecodeError:
        raise BadSourcePath("b64 contains bytes that are not UTF-8") from None
    if CONTROL.search(path):
        raise BadSourcePath("the source path contains a control character")
    return path


def encode_remote(url: str) -> str:
    """A URL in base64url, the only one of the three forms that no proxy rewrites."""
    return "b64/" + urlsafe_b64encode(url.encode()).decode().rstrip("=")
