"""What a server's owner decides about native URLs."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class NativeSettings:
    """Limits on what one URL may ask for: pixels, counts, bytes."""

    max_side: Annotated[int, Ge(16), Le(65_535)] = 8_192
    max_segments: Annotated[int, Ge(1), Le(64)] = 16
    max_steps: Annotated[int, Ge(1), Le(200)] = 40
    # aiohttp answers a request line over 8,190 bytes itself, with a bare 400: ours must be reached first.
    max_target_bytes: Annotated[int, Ge(256), Le(8_100)] = 8_000
