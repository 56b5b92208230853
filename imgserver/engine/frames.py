"""The image between two steps: its frames as lazy libvips images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from imgserver.engine.vips import Image, reading


@dataclass(frozen=True, slots=True)
class Frames:
    """One or more images of one size. A single one may still stream from the decoder, and can then be read once only.

    `delays` (in ms, one for each frame) and `loop` (repetitions, 0 for ever) belong to animations.
    """

    images: tuple[Image, ...]
    delays: tuple[int, ...] = ()
    loop: int = 0

    @property
    def first(self) -> Image:
        return self.images[0]

    @property
    def width(self) -> int:
        return int(self.first.width)

    @property
    def height(self) -> int:
        """Of one frame."""
        return int(self.first.height)

    @property
    def alpha(self) -> bool:
        return bool(self.first.hasalpha())

    def each(self, change: Callable[[Image], Image]) -> "Frames":
        """The frames with `change` applied to every image."""
        return replace(self, images=tuple(map(change, self.images)))

    def in_memory(self) -> "Frames":
        """The frames with all pixels computed; costs nothing if they are already. Raises BrokenImage.

        For steps that read pixels more than once, or in another order than the decoder writes them: libvips would
        compute a lazy pipeline again for each reading, and a streamed image cannot be read again.
        """
        with reading():
            return self.each(lambda image: image.copy_memory())

    def joined(self) -> Image:
        """All frames below each other, as libvips saves animations."""
        return self.first if len(self.images) == 1 else Image.arrayjoin(list(self.images), across=1)
