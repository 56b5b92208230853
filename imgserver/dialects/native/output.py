"""The keys that act once on the whole URL: from any segment, the last one counts."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from imgserver.dialects.native.flags import CONTRADICTIONS
from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.refusals import bad_rule
from imgserver.dialects.native.wish import Wish
from imgserver.errors import NotInThisBuild
from imgserver.plan.canonical import INTERLACED
from imgserver.plan.formats import FORMATS, WRITABLE
from imgserver.plan.plan import Output, Terminal

NAMES = {row.key: row.name for row in OPTIONS.values() if row.scope == "url"}


def gather(wishes: Iterable[Wish]) -> Wish:
    """One wish holding the last of each global key."""
    last: dict[str, Any] = {}
    written = {}
    for wish in wishes:
        for key in NAMES.keys() & wish.written.keys():
            last[NAMES[key]] = getattr(wish, NAMES[key])
            written[key] = wish.written[key]
    return Wish(**last, written=written)


def emit_output(wish: Wish) -> tuple[Output, Terminal]:
    """Raises BadOption for keys that cannot stand together, NotInThisBuild for formats that cannot be written."""
    _check(wish)
    terminal = wish.format if isinstance(wish.format, Terminal) else Terminal()
    flags = wish.flags
    output = Output(
        format=wish.format if isinstance(wish.format, str) else "source",
        quality=wish.quality or "auto",
        lossless="lossless" in flags,
        progressive=True if "progressive" in flags else None,
        metadata="all" if "keep_metadata" in flags else "copyright" if "keep_copyright" in flags else "none",
        profile="keep" if "keep_profile" in flags else "srgb",
        frames=wish.page or ("all" if "animated" in flags else "first" if "still" in flags else "auto"),
    )
    return output, terminal


def pixel_ratio(wish: Wish) -> Fraction:
    return wish.pixel_ratio or Fraction(1)


def _check(wish: Wish) -> None:
    flags = wish.flags
    for one, other in CONTRADICTIONS:
        if one in flags and other in flags:
            raise bad_rule(wish.written["fl"], f"{one} and {other} exclude each other")
    if wish.page is not None and "animated" in flags:
        raise bad_rule(wish.written["pg"], "one page has no animation; leave out fl_animated")
    if isinstance(wish.format, str):
        _check_format(wish, wish.format)


def _check_format(wish: Wish, name: str) -> None:
    row = FORMATS.get(name)
    if row is None:
        return
    if name not in WRITABLE:
        option = wish.written["f"]
        raise NotInThisBuild(f"f: this build cannot write {name}", argument="f", value=option.text, at=option.at)
    needs = {"animated": row.animation, "lossless": row.lossless, "progressive": name in INTERLACED}
    for flag, able in needs.items():
        if flag in wish.flags and not able:
            raise bad_rule(wish.written["fl"], f"{flag} has no effect on {name}")
