"""The running picture: its frames as lazy libvips images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from imgserver.engine.vips import Image, reading


@dataclass(frozen=True, slots=True)
class Picture:
    """Frames of one size, at least one; a single one may still be streaming from the decoder, readable once.

    `delays` in ms and `loop` (0 for ever) belong to animations.
    """

    frames: tuple[Image, ...]
    delays: tuple[int, ...] = ()
    loop: int = 0

    @property
    def first(self) -> Image:
        return self.frames[0]

    @property
    def width(self) -> int:
        return int(self.first.width)

    @property
    def height(self) -> int:
        return int(self.first.height)

    @property
    def alpha(self) -> bool:
        return bool(self.first.hasalpha())

    def each(self, change: Callable[[Image], Image]) -> "Picture":
        return replace(self, frames=tuple(change(frame) for frame in self.frames))

    def settled(self) -> "Picture":
        """Pixels in memory, for steps that read in another order than the decoder writes, or more than once: a lazy
        pipeline would be computed again for each reading, and a streamed one cannot. Costs nothing if they are."""
        with reading():
            return self.each(lambda frame: frame.copy_memory())

    def strip(self) -> Image:
        """All frames below each other, as libvips saves animations."""
        return self.first if len(self.frames) == 1 else Image.arrayjoin(list(self.frames), across=1)
