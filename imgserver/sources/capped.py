"""A sink that takes only so much, whatever the sender has said."""

from imgserver.errors import ImageOverLimit
from imgserver.sources.origin import Sink


class Capped:
    """Counts before it hands on: `sink` never gets more than `max_bytes`."""

    def __init__(self, sink: Sink, max_bytes: int) -> None:
        self.taken_bytes = 0
        self._sink = sink
        self._max_bytes = max_bytes

    def expect(self, size_bytes: int | None) -> None:
        """What the sender promises, before it comes. Raises ImageOverLimit."""
        if size_bytes is not None and size_bytes > self._max_bytes:
            raise self._over(size_bytes)

    async def take(self, chunk: bytes) -> None:
        """Raises ImageOverLimit, and whatever the sink raises."""
        self.taken_bytes += len(chunk)
        if self.taken_bytes > self._max_bytes:
            raise self._over(self.taken_bytes)
        await self._sink(chunk)

    def _over(self, size_bytes: int) -> ImageOverLimit:
        return ImageOverLimit(
            f"source bytes: {size_bytes} is over the limit of {self._max_bytes}",
            limit="source bytes",
            value=size_bytes,
            allowed=self._max_bytes,
        )
