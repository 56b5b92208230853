"""The values that pass between server and worker: jobs, limits, results. All can be pickled."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, doc

from imgserver.errors import ImageOverLimit
from imgserver.plan.plan import Dims, Plan
from imgserver.runtime.resources import MIB

MEGA = 1_000_000
# Up to this size the pixels are computed into memory before encoding, so that a broken original fails before the
# encoder starts, and an encoder may read them more than once. A larger image may still stream from its decoder.
IN_MEMORY_PIXELS = 8 * MEGA


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker refuses from the header of the original (422), or from plan and header (`output_*`, 400)."""

    source_bytes: Annotated[int, Ge(1024), doc("file size of an original")] = 64 * MIB
    source_side: Annotated[int, Ge(1), Le(65_535), doc("width or height of an original, in pixels")] = 16_383
    source_pixels: Annotated[int, Ge(1), doc("pixels of an original, all frames together")] = 50 * MEGA
    frames: Annotated[int, Ge(1), Le(10_000), doc("frames of an animation or pages of a document")] = 200
    decoded_bytes: Annotated[int, Ge(MIB), doc("memory that one decoded original may take")] = 256 * MIB
    output_side: Annotated[int, Ge(1), Le(65_535), doc("width or height of a result, in pixels")] = 8_192
    output_pixels: Annotated[int, Ge(1), doc("pixels of a result, all frames together")] = 40 * MEGA
    result_bytes: Annotated[int, Ge(1024), doc("file size of a result")] = 32 * MIB
    svg: Annotated[bool, doc("whether SVG originals are rendered")] = False


def over(what: str, value: int, limit: int) -> ImageOverLimit:
    """The error for `what` of an original or a result, which is over the limit."""
    return ImageOverLimit(f"{what}: {value} is over the limit of {limit}", limit=what, value=value, allowed=limit)


@dataclass(frozen=True, slots=True)
class Quality:
    """How images are scaled and encoded, for the whole server."""

    shrink_headroom: Annotated[
        int,
        Ge(1),
        Le(8),
        doc("how many times larger than needed shrink-on-load leaves an image; 1 is faster and softer"),
    ] = 2
    linear_light: Annotated[
        bool, doc("whether images are scaled in linear light: better edges, about twice the CPU")
    ] = False
    avif_effort: Annotated[int, Ge(0), Le(9), doc("AVIF encoder effort; 4 and above take ten times the CPU")] = 2
    avif_effort_max_pixels: Annotated[int, Ge(0), doc("results with more pixels are encoded with AVIF effort 0")] = (
        4 * MEGA
    )
    webp_effort: Annotated[int, Ge(0), Le(6), doc("WebP encoder effort")] = 4
    jpeg_optimize: Annotated[
        bool, doc("whether small JPEG files get optimized Huffman tables; progressive ones always do")
    ] = True

    def avif_effort_for(self, pixels: int) -> int:
        """The effort for a live AVIF of so many pixels."""
        return self.avif_effort if pixels <= self.avif_effort_max_pixels else 0


@dataclass(frozen=True, slots=True)
class Job:
    """One image to render. `path` is a local regular file.

    `goal` is "optimize" if the result takes the place of the original: it must neither be larger nor hold fewer frames
    (engine/optimize.py). `version` is that of the original, for `f_info`; "" if it has none.
    """

    path: str
    plan: Plan
    limits: Limits = field(default_factory=Limits)
    quality: Quality = field(default_factory=Quality)
    goal: Literal["render", "optimize"] = "render"
    version: str = ""


@dataclass(frozen=True, slots=True)
class Codecs:
    """What a worker can read and write: names of `plan.formats.FORMATS`, and the version of libvips."""

    version: str = ""
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall seconds by stage, CPU seconds and peak memory of the worker."""

    decode_seconds: float = 0.0
    transform_seconds: float = 0.0
    encode_seconds: float = 0.0
    cpu_seconds: float = 0.0
    rss_bytes: int = 0


# encoded: encoded again; original: the original without its metadata; larger (with the goal "optimize"): encoded
# again, and larger than the original.
Outcome = Literal["encoded", "original", "larger"]


@dataclass(frozen=True, slots=True)
class RenderResult:
    """The rendered file. `etag` is a 128-bit digest of `body` in hex. `size` is that of the result, in pixels and
    frames.

    `outcome`: how the file was made; for "larger", `reason` is a word of engine/optimize.py. `left_out` names what the
    original holds besides its image and the result does not: "a second picture", "a video", "a gain map", or "".
    """

    body: bytes
    media_type: str
    etag: str
    size: Dims
    source_format: str
    source_size: Dims
    source_bytes: int
    timings: Timings
    outcome: Outcome = "encoded"
    reason: str = ""
    left_out: str = ""
