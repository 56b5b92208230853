"""Aliases: further names of one original, such as symlinks to it. Keys, quotas and purges know an original by one name.

A URL does not tell whether its path is an alias, and the file system is not asked for each request. What it has said
holds for as long as a fingerprint.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from imgserver.errors import ImgserverError, NotFound
from imgserver.plan.plan import SourceRef
from imgserver.rendering.renderer import FINGERPRINT_TTL_SECONDS
from imgserver.rendering.variants import RenderRequest
from imgserver.runtime.ttl_map import BoundedMap

# All of them are names of files that exist, so no client can fill the map with text of its own.
MAX_ENTRIES = 1024


@dataclass(frozen=True, slots=True)
class Alias:
    """The request under the name that stands for all. The source is asked again at `expires`."""

    request: RenderRequest
    expires: float


class Aliases:
    """For one event loop. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: BoundedMap[str, Alias] = BoundedMap(MAX_ENTRIES)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, request: RenderRequest) -> RenderRequest | None:
        """The request under the name that stands for all, as far as it is known."""
        alias = self._entries.get(request.key)
        return alias.request if alias is not None and self._clock() < alias.expires else None

    async def resolve(
        self,
        request: RenderRequest,
        *,
        identify: Callable[[SourceRef], Awaitable[SourceRef]],
        rename: Callable[[RenderRequest, SourceRef], RenderRequest],
    ) -> RenderRequest:
        """As `find`, but asks the source by `identify`. The request itself if it has the name that stands for all, or
        if there is no such original; the last known one while the source fails."""
        known = self.find(request)
        if known is not None:
            return known
        try:
            ref = await identify(request.ref)
        except NotFound:
            return request
        except ImgserverError:
            last = self._entries.get(request.key)
            return request if last is None else last.request
        if ref == request.ref:
            return request
        named = rename(request, ref)
        self._entries.put(request.key, Alias(named, self._clock() + FINGERPRINT_TTL_SECONDS))
        return named
