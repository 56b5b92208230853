"""Links that end: whether one has, and cache fields that no copy of its picture outlives."""

import re

from imgserver.errors import Expired

_LIFETIME = re.compile(r"(max-age|s-maxage|stale-while-revalidate|stale-if-error)=([0-9]+)")
_STALE = ("stale-while-revalidate", "stale-if-error")


def seconds_left(expires: int, *, now: float) -> int:
    """Whole seconds in which the link is good. Raises Expired."""
    if now >= expires:
        raise Expired("this link was good until a moment that is over", reason="expired")
    return int(expires - now)


def bounded(cache_control: str, *, seconds: int) -> str:
    """The field with every lifetime inside the next `seconds`: fresh and stale use together."""
    fresh = min(
        seconds, max((int(age) for name, age in _LIFETIME.findall(cache_control) if name not in _STALE), default=0)
    )

    def bound(found: re.Match[str]) -> str:
        name, age = found[1], int(found[2])
        return f"{name}={min(age, seconds - fresh if name in _STALE else seconds)}"

    # `immutable` tells browsers not to ask again for as long as max-age, so it may stay.
    return _LIFETIME.sub(bound, cache_control)
