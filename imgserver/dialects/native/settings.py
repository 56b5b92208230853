"""The settings of the native dialect."""

import itertools
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le, doc


@dataclass(frozen=True, slots=True)
class NativeSettings:
    """Limits on what one URL may request. Raises ValueError if `snap_widths` does not ascend or exceeds `max_side`."""

    max_side: Annotated[int, Ge(16), Le(65_535), doc("largest width or height that a URL may request, in pixels")] = (
        8_192
    )
    max_segments: Annotated[int, Ge(1), Le(64), doc("option segments in one URL")] = 16
    max_steps: Annotated[int, Ge(1), Le(200), doc("processing steps of one URL")] = 40
    # aiohttp answers a request line over 8,190 bytes itself, with a bare 400: ours must be reached first.
    max_target_bytes: Annotated[int, Ge(256), Le(8_100), doc("length of the request target")] = 8_000
    presets_only: Annotated[
        bool, doc("whether URLs may use presets only, one in an unsigned URL, and no other options")
    ] = False
    snap_widths: Annotated[
        tuple[Annotated[int, Ge(1), Le(65_535)], ...],
        doc("sizes that requested sides are rounded up to, ascending, once in an unsigned URL; empty: no rounding"),
    ] = ()

    @property
    def bounds_renditions(self) -> bool:
        """Whether unsigned URLs shall have few different results."""
        return self.presets_only or bool(self.snap_widths)

    def __post_init__(self) -> None:
        if any(one >= other for one, other in itertools.pairwise(self.snap_widths)):
            raise ValueError("snap_widths must ascend, each width once")
        if self.snap_widths and self.snap_widths[-1] > self.max_side:
            raise ValueError(f"snap_widths goes up to {self.snap_widths[-1]}, beyond max_side, {self.max_side}")
