"""Requests and answers of the service: values after content negotiation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from imgserver.cache.cache_tags import NO_TAGS, Tags, groups_of
from imgserver.engine.job import Quality
from imgserver.headers import negotiation
from imgserver.plan import canonical
from imgserver.plan.normalization import normalize
from imgserver.plan.plan import ImageRequest, Plan, SourceRef
from imgserver.plan.rendition import Rendition
from imgserver.rendering.degradation import DegradationLevel, degrade


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """One rendition of one original. Nothing in it depends on request headers any more.

    `key`: its cache key. `groups`: the purge groups that reach it. `metered`: the URL is not signed, so that anybody
    can make it up; a render then counts against the quota of the original.
    """

    key: str
    ref: SourceRef
    plan: Plan
    groups: tuple[str, ...] = ()
    metered: bool = False


@dataclass(frozen=True, slots=True)
class PipelineVersion:
    """How this server renders, and from which sources: a part of every key, so that renditions made with other settings
    or from other sources are never hits.

    `name` is a digest of the quality settings and of the versions of the plug-ins. `identities` are those of the
    sources, by name. `tags` are not a part of the key: they only add purge groups.
    """

    name: str
    tags: Tags = NO_TAGS
    identities: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        quality: Quality,
        *,
        plugins: Iterable[str] = (),
        tags: Tags = NO_TAGS,
        identities: Mapping[str, str] = MappingProxyType({}),
    ) -> "PipelineVersion":
        return cls(canonical.digest(repr(quality), *plugins)[: canonical.PIPELINE_DIGITS], tags, identities)

    def identified(self, ref: SourceRef) -> SourceRef:
        """The original as keys and cache groups name it."""
        return canonical.identified(ref, self.identities)

    def render_request(
        self, request: ImageRequest, offers: tuple[str, ...], *, save_data: bool = False
    ) -> RenderRequest:
        """The rendition that answers a request, given the formats its client accepts and its Save-Data hint."""
        output = negotiation.negotiate(request.plan.output, offers, save_data=save_data)
        plan = replace(request.plan, output=output)
        return self._request(request.ref, plan, metered=not request.signed)

    def degraded_request(self, request: RenderRequest, level: DegradationLevel) -> RenderRequest:
        """The same request with a degraded plan; the same object if the level leaves nothing out of its plan."""
        plan = degrade(request.plan, level)
        return request if plan is request.plan else self._request(request.ref, plan, metered=request.metered)

    def renamed(self, request: RenderRequest, ref: SourceRef) -> RenderRequest:
        """The same request under another name of its original."""
        return self._request(ref, request.plan, metered=request.metered)

    def _request(self, ref: SourceRef, plan: Plan, *, metered: bool) -> RenderRequest:
        plan = normalize(plan)
        identified = self.identified(ref)
        key = canonical.key(identified, plan, pipeline=self.name)
        groups = groups_of(identified, key=key, tags=self.tags.of_path(ref.path))
        return RenderRequest(key, ref, plan, groups, metered)


@dataclass(frozen=True, slots=True)
class ServedRendition:
    """`tier`: the cache tier that had it, or "" if the request waited for a render. `level`: how far it is degraded."""

    rendition: Rendition
    outcome: Literal["hit", "stale", "joined", "rendered"]
    tier: str = ""
    level: DegradationLevel = DegradationLevel.NONE


@dataclass(frozen=True, slots=True)
class RenderedResult:
    """The result of a single flight. `elsewhere`: another replica rendered it while this one waited for its lock."""

    rendition: Rendition
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class CachedRendition:
    """A rendition found in a cache tier. `current`: its original has not changed since, as far as the server knows.
    `checked`: the source has said so; while the source fails, it has not."""

    rendition: Rendition
    tier: str
    current: bool
    checked: bool = True
