"""The body of a purge request: a JSON object with exactly one selector.

{"url": "/img/w_400/cat.png"}    one image, in all its negotiated formats
{"source": "cat.png"}            all renditions of one original
{"prefix": "team/"}              of all originals below a folder
{"tag": "summer"}                of all originals with this tag
{"group": "s57862b9718b7cf50"}   of one group, by its name in Cache-Groups
{"all": true}                    everything in this namespace; other keys in Redis survive
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from imgserver.cache.cache_tags import ALL, is_group, key_group, original_group, prefix_group, source_group, tag_group
from imgserver.dialects import MountedDialects
from imgserver.errors import BadRequest
from imgserver.headers import negotiation
from imgserver.plan.plan import SourceRef
from imgserver.rendering.variants import PipelineVersion

SELECTORS = ("url", "source", "prefix", "tag", "group", "all")
# Every result that the negotiation of one URL can have.
OFFERS: tuple[tuple[str, ...], ...] = ((), ("webp",), ("avif", "webp"))


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """One selector with its value, whose type `PurgeResolver` checks."""

    selector: str
    value: object

    @classmethod
    def parse(cls, body: bytes) -> "PurgeRequest":
        """Raises BadRequest."""
        try:
            members = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest("purge: the body is not JSON") from error
        if not isinstance(members, dict) or len(members) != 1 or next(iter(members)) not in SELECTORS:
            names = ", ".join(SELECTORS)
            raise BadRequest(f"purge: the body must be a JSON object with one of {names}", allowed=names)
        ((selector, value),) = members.items()
        return cls(selector, value)


class PurgeResolver:
    """Finds the cache groups and the original that a purge request names."""

    def __init__(self, dialects: MountedDialects, pipeline_version: PipelineVersion) -> None:
        self._dialects = dialects
        self._pipeline_version = pipeline_version

    def groups(self, purge: PurgeRequest) -> tuple[str, ...]:
        """The cache groups to purge. Raises BadRequest for a value of the wrong type or an unknown tag, and what
        `Dialect.parse` and `NativeDialect.resolve` raise."""
        match purge.selector, purge.value:
            case "all", True:
                return (ALL,)
            case "source", str(path) if path:
                ref = self._dialects.native.resolve(path.strip("/"))
                return (source_group(self._pipeline_version.identified(ref)),)
            case "prefix", str(prefix):
                return (self._prefix_group(prefix.strip("/")),)
            case "tag", str(tag):
                return (self._tag_group(tag),)
            case "group", str(group) if is_group(group):
                return (group,)
            case "url", str(target):
                original = original_group(self._pipeline_version.identified(self._dialects.parse(target).ref))
                return (*dict.fromkeys(self._key_groups(target)), original)
        raise BadRequest('purge: "url", "source", "prefix", "tag" and "group" take text, "all" takes true')

    def groups_by(self, purge: PurgeRequest, ref: SourceRef) -> tuple[str, ...]:
        """`groups` of the same request, with `ref` as the name of its original or folder."""
        identified = self._pipeline_version.identified(ref)
        match purge.selector, purge.value:
            case "source", _:
                return (source_group(identified),)
            case "prefix", _:
                return (prefix_group(identified.source, identified.path),)
            case "url", str(target):
                return (*dict.fromkeys(self._key_groups(target, ref)), original_group(identified))
        return ()

    def named(self, purge: PurgeRequest) -> SourceRef | None:
        """The original or the folder that the request names; None for other selectors and for a whole source."""
        if purge.selector != "prefix":
            return self.original(purge)
        below = self._dialects.native.resolve(f"{str(purge.value).strip('/')}/_".strip("/"))
        folder = below.path.rpartition("/")[0]
        return SourceRef(below.source, folder) if folder else None

    def original(self, purge: PurgeRequest) -> SourceRef | None:
        """The original of a request that names exactly one; otherwise None."""
        match purge.selector, purge.value:
            case "url", str(target):
                return self._dialects.parse(target).ref
            case "source", str(path):
                return self._dialects.native.resolve(path.strip("/"))
        return None

    def _tag_group(self, tag: str) -> str:
        # A misspelled tag would purge nothing and report success.
        if tag not in self._pipeline_version.tags.names:
            raise BadRequest(f"purge: there is no tag {tag}", value=tag)
        return tag_group(tag)

    def _key_groups(self, target: str, ref: SourceRef | None = None) -> Iterator[str]:
        """The groups of all results of a URL; `ref`: under another name of its original."""
        for hints in negotiation.variants(self._dialects.parse(target).hints):
            request = self._dialects.parse(target, hints)
            if ref is not None:
                request = replace(request, ref=ref)
            for offers in OFFERS:
                yield key_group(self._pipeline_version.render_request(request, offers, save_data=hints.save_data).key)

    def _prefix_group(self, prefix: str) -> str:
        """The group of a folder, or of a whole source when the prefix is a source's name."""
        below = self._pipeline_version.identified(self._dialects.native.resolve(f"{prefix}/_" if prefix else "_"))
        return prefix_group(below.source, below.path.rpartition("/")[0])
