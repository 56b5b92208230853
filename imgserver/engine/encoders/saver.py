"""The encoders that libvips has: a saver, and its options for an output."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgserver.engine.job import Quality
from imgserver.plan.plan import Output

if TYPE_CHECKING:
    from imgserver.engine.vips import Image


@dataclass(frozen=True, slots=True)
class SaverEncoder:
    """Satisfies `Encoder`. `operation` is a saver to memory, such as `jpegsave_buffer`.

    `options` returns the saver's options for an image, whose frames stand below each other.
    """

    operation: str
    options: Callable[["Image", Output, Quality], dict[str, Any]]

    def encode(self, image: "Image", *, output: Output, quality: Quality, keep: int) -> bytes:
        page_height = image.get_page_height()
        options = self.options(image, output, quality)
        if page_height != image.height:
            # Without metadata to keep, the saver does not read the page height from the image.
            options["page_height"] = page_height
        return bytes(getattr(image, self.operation)(keep=keep, **options))


def frame_pixels(image: "Image") -> int:
    return int(image.width * image.get_page_height())


def effort_of(output: Output, budget: int, *, highest: int) -> int:
    """The effort that the request asks for, else `budget`; at most `highest`, the end of the encoder's scale."""
    return min(highest, budget if output.effort is None else output.effort)
