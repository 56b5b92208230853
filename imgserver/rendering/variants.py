"""What is asked of the service, and what it serves: values after negotiation."""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

from imgserver.cache.cache_tags import NO_TAGS, Tags, groups_of
from imgserver.engine.job import Quality
from imgserver.headers import negotiation
from imgserver.plan import canonical
from imgserver.plan.plan import ImageRequest, Plan, SourceRef
from imgserver.plan.rendition import Rendition
from imgserver.rendering.degradation import DegradationLevel


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """A wish after negotiation: nothing in it depends on a header any more. `groups` are what it is purged with.

    `metered`: by a URL that anybody can make up, so that what it has made anew counts against the original's quota.
    """

    key: str
    ref: SourceRef
    plan: Plan
    groups: tuple[str, ...] = ()
    metered: bool = False


@dataclass(frozen=True, slots=True)
class PipelineVersion:
    """How this server makes pictures, as a part of every key: what another setting made is not a hit of ours.

    `tags` are no part of it: they only tell what is purged together.
    """

    name: str
    tags: Tags = NO_TAGS

    @classmethod
    def of(cls, quality: Quality, tags: Tags = NO_TAGS) -> "PipelineVersion":
        return cls(sha256(repr(quality).encode()).hexdigest()[: canonical.PIPELINE_DIGITS], tags)

    def key(self, ref: SourceRef, plan: Plan) -> str:
        return canonical.key(ref, plan, pipeline=self.name)

    def order(self, request: ImageRequest, offers: tuple[str, ...], *, save_data: bool = False) -> RenderRequest:
        """What a request asks for, once a client's offers and hints are known."""
        output = negotiation.negotiate(request.plan.output, offers, save_data=save_data)
        plan = canonical.normalize(replace(request.plan, output=output))
        key = self.key(request.ref, plan)
        groups = groups_of(request.ref, key=key, tags=self.tags.of_path(request.ref.path))
        return RenderRequest(key, request.ref, plan, groups, metered=not request.signed)

    def degraded_request(self, order: RenderRequest, plan: Plan) -> RenderRequest:
        """An order of the same original for another plan; the same order for the same plan."""
        if plan is order.plan:
            return order
        plan = canonical.normalize(plan)
        key = self.key(order.ref, plan)
        groups = groups_of(order.ref, key=key, tags=self.tags.of_path(order.ref.path))
        return replace(order, key=key, plan=plan, groups=groups)


@dataclass(frozen=True, slots=True)
class ServedRendition:
    """`tier` had it; "" when it was made for this request. `rung`: how much was left out of it."""

    rendition: Rendition
    outcome: Literal["hit", "stale", "joined", "rendered"]
    tier: str = ""
    level: DegradationLevel = DegradationLevel.NONE


@dataclass(frozen=True, slots=True)
class RenderedResult:
    """What a flight brings. `elsewhere`: another server on the same Redis rendered it, and this one waited."""

    rendition: Rendition
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class CachedRendition:
    """A record found. `current`: of its original as it is now, as far as anybody can tell."""

    rendition: Rendition
    tier: str
    current: bool
