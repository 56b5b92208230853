"""Equal requests: several URLs whose results are the same image, such as sizes above that of the original.

Keys are made from URLs alone, before anything of the original is known. Each render tells the real size of its
original; from then on, a request that is not cached is compared with those before it, and shares the rendition of an
equal one. What is remembered here is lost at a restart, which costs one more render.
"""

from dataclasses import replace

from imgserver.plan.plan import Dims, SourceRef
from imgserver.plan.rendition import Fingerprint, Rendition
from imgserver.plan.resolution import result_digest
from imgserver.rendering.variants import RenderRequest
from imgserver.runtime.ttl_map import BoundedMap

MAX_ENTRIES = 1_024
# Longer paths and plans, which any client can make up, are not compared: they would fill the memory.
MAX_PATH = 512
MAX_STEPS = 8

# An original, and the page of it that a plan names ("" if it names none).
Page = tuple[SourceRef, int | str]


class EqualRequests:
    """State only, no I/O."""

    def __init__(self) -> None:
        # The fingerprint, the format and the size of the originals that were rendered.
        self._sources: BoundedMap[Page, tuple[Fingerprint, str, Dims]] = BoundedMap(MAX_ENTRIES)
        # The first request for each result.
        self._first: BoundedMap[tuple[SourceRef, Fingerprint, str], RenderRequest] = BoundedMap(MAX_ENTRIES)

    def learn(self, request: RenderRequest, rendition: Rendition) -> None:
        """Remembers the state, format and size of the original of a render, and that the request is cached."""
        if rendition.source_size is None or len(request.ref.path) > MAX_PATH:
            return
        source = rendition.fingerprint, rendition.source_format, rendition.source_size
        self._sources.put(_page(request), source)
        self.first(request, rendition.fingerprint)

    def is_comparable(self, request: RenderRequest) -> bool:
        """Whether `first` can know an equal request."""
        return _page(request) in self._sources and len(request.plan.steps) <= MAX_STEPS

    def first(self, request: RenderRequest, fingerprint: Fingerprint) -> RenderRequest:
        """The first request that has the same result, for an original in the state `fingerprint`; the request itself if
        there was none."""
        known = self._sources.get(_page(request))
        if known is None or known[0] != fingerprint or len(request.plan.steps) > MAX_STEPS:
            return request
        result = result_digest(request.plan, known[1], known[2])
        if result is None:
            return request
        first = self._first.get((request.ref, fingerprint, result))
        if first is None:
            self._first.put((request.ref, fingerprint, result), request)
            return request
        return request if first.key == request.key else replace(first, metered=request.metered)


def _page(request: RenderRequest) -> Page:
    frames = request.plan.output.frames
    return request.ref, frames if isinstance(frames, int) else ""
