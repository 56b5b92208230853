"""What a server's owner decides about native URLs."""

import itertools
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class NativeSettings:
    """Limits on what one URL may ask for: pixels, counts, bytes; whether it must name presets; a ladder of sizes."""

    max_side: Annotated[int, Ge(16), Le(65_535)] = 8_192
    max_segments: Annotated[int, Ge(1), Le(64)] = 16
    max_steps: Annotated[int, Ge(1), Le(200)] = 40
    # aiohttp answers a request line over 8,190 bytes itself, with a bare 400: ours must be reached first.
    max_target_bytes: Annotated[int, Ge(256), Le(8_100)] = 8_000
    presets_only: bool = False
    snap_widths: tuple[Annotated[int, Ge(1), Le(65_535)], ...] = ()

    def __post_init__(self) -> None:
        if any(one >= other for one, other in itertools.pairwise(self.snap_widths)):
            raise ValueError("snap_widths must ascend, each width once")
        if self.snap_widths and self.snap_widths[-1] > self.max_side:
            raise ValueError(f"snap_widths goes up to {self.snap_widths[-1]}, beyond max_side, {self.max_side}")
