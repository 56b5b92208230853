"""What a server's owner decides about native URLs."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval, Predicate


def _is_mount(path: str) -> bool:
    return len(path) > 2 and path[0] == path[-1] == "/" and path.isascii() and not set("?#%") & set(path)


@dataclass(frozen=True, slots=True)
class NativeSettings:
    """Limits on what one URL may ask for. Bytes, counts and pixels."""

    mount: Annotated[str, Predicate(_is_mount)] = "/img/"
    max_side: Annotated[int, Interval(ge=16, le=65_535)] = 8_192
    max_segments: Annotated[int, Interval(ge=1, le=64)] = 16
    max_steps: Annotated[int, Interval(ge=1, le=200)] = 40
    # aiohttp answers a request line over 8,190 bytes itself, with a bare 400: ours must be reached first.
    max_target_bytes: Annotated[int, Interval(ge=256, le=8_100)] = 8_000
