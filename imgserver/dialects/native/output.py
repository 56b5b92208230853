"""The options of the whole URL: output format, quality, flags, page. They may be in any segment; the last one
counts."""

from collections.abc import Iterable
from typing import Any

from imgserver.dialects.native.flags import CONTRADICTIONS
from imgserver.dialects.native.messages import bad_rule
from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.segment import Segment
from imgserver.errors import NotInThisBuild
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import Output, Terminal

# Field names by key.
URL_OPTIONS = {row.key: row.name for row in OPTIONS.values() if row.scope == "url"}


def collect_url_options(segments: Iterable[Segment]) -> Segment:
    """A segment with the last value of each option that is for the whole URL."""
    values: dict[str, Any] = {}
    written = {}
    for segment in segments:
        for key in URL_OPTIONS.keys() & segment.written.keys():
            values[URL_OPTIONS[key]] = getattr(segment, URL_OPTIONS[key])
            written[key] = segment.written[key]
    return Segment(**values, written=written)


def emit_output(whole_url: Segment) -> tuple[Output, Terminal]:
    """The output and the terminal of a plan. Raises BadOption for options that exclude each other, and NotInThisBuild
    for a format that cannot be written."""
    _check(whole_url)
    terminal = whole_url.format if isinstance(whole_url.format, Terminal) else Terminal()
    flags = whole_url.flags
    output = Output(
        format=whole_url.format if isinstance(whole_url.format, str) else "source",
        quality=whole_url.quality or "auto",
        lossless="lossless" in flags,
        progressive=True if "progressive" in flags else None,
        metadata="all" if "keep_metadata" in flags else "copyright" if "keep_copyright" in flags else "none",
        profile="keep" if "keep_profile" in flags else "srgb",
        frames=whole_url.page or ("all" if "animated" in flags else "first" if "still" in flags else "auto"),
    )
    return output, terminal


def _check(whole_url: Segment) -> None:
    flags = whole_url.flags
    for one, other in CONTRADICTIONS:
        if one in flags and other in flags:
            raise bad_rule(whole_url.written["fl"], f"{one} and {other} exclude each other")
    if whole_url.page is not None and "animated" in flags:
        raise bad_rule(whole_url.written["pg"], "one page has no animation; leave out fl_animated")
    if isinstance(whole_url.format, str):
        _check_format(whole_url, whole_url.format)


def _check_format(whole_url: Segment, name: str) -> None:
    row = FORMATS.get(name)
    if row is None:
        return
    if not row.writable:
        option = whole_url.written["f"]
        raise NotInThisBuild(f"f: this build cannot write {name}", argument="f", value=option.text, at=option.at)
    supported = {"animated": row.animation, "lossless": row.lossless, "progressive": row.progressive}
    for flag, is_supported in supported.items():
        if flag in whole_url.flags and not is_supported:
            raise bad_rule(whole_url.written["fl"], f"{flag} has no effect on {name}")
