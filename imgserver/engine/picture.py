"""The running picture: its frames as lazy libvips images, and whether they may be read in any order."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from imgserver.engine.vips import Image, reading


@dataclass(frozen=True, slots=True)
class Picture:
    """Frames of one size, at least one. `streamed`: pixels still come top to bottom from the decoder, once.

    `delays` in ms and `loop` (0 for ever) belong to animations.
    """

    frames: tuple[Image, ...]
    streamed: bool = False
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
        """Pixels in memory, for steps that read in another order than the decoder writes, or more than once."""
        if not self.streamed:
            return self
        with reading():
            return replace(self, frames=tuple(frame.copy_memory() for frame in self.frames), streamed=False)

    def strip(self) -> Image:
        """All frames below each other, as libvips saves animations."""
        return self.first if len(self.frames) == 1 else Image.arrayjoin(list(self.frames), across=1)
