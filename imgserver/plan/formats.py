"""Image formats: one row each, and the pure rules that choose one and its quality."""

from dataclasses import dataclass

from imgserver.errors import NotInThisBuild
from imgserver.plan.plan import Output

# Words for people who do not want a number; the same picture quality in each format, not the same number.
QUALITY_LEVELS: dict[str, dict[str, int]] = {
    "jpg": {"best": 90, "good": 80, "eco": 70, "low": 55},
    "webp": {"best": 88, "good": 78, "eco": 68, "low": 50},
    "avif": {"best": 72, "good": 58, "eco": 48, "low": 38},
    "jxl": {"best": 90, "good": 77, "eco": 66, "low": 50},
}


@dataclass(frozen=True, slots=True)
class Format:
    """`max_side` is the format's own limit in pixels; `web` tells whether browsers show it."""

    name: str
    media_type: str
    suffix: str
    alpha: bool = False
    animation: bool = False
    lossless: bool = False
    lossy: bool = True
    web: bool = True
    max_side: int = 65535


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("jpg", "image/jpeg", ".jpg"),
        Format("png", "image/png", ".png", alpha=True, lossless=True, lossy=False),
        Format("webp", "image/webp", ".webp", alpha=True, animation=True, lossless=True, max_side=16383),
        Format("avif", "image/avif", ".avif", alpha=True, lossless=True, max_side=16384),
        Format("gif", "image/gif", ".gif", alpha=True, animation=True, lossy=False),
        Format("jxl", "image/jxl", ".jxl", alpha=True, animation=True, lossless=True, web=False),
        Format("tiff", "image/tiff", ".tif", alpha=True, lossless=True, lossy=False, web=False),
        Format("svg", "image/svg+xml", ".svg", alpha=True, web=False),
        Format("heic", "image/heic", ".heic", alpha=True, web=False),
    )
}

# The format that a file's name claims, by its suffix in lower case.
FORMAT_OF_SUFFIX = {row.suffix: row.name for row in FORMATS.values()} | {
    ".jpeg": "jpg",
    ".tiff": "tiff",
    ".heif": "heic",
    ".hif": "heic",
}

READABLE = frozenset({"jpg", "png", "webp", "avif", "gif", "tiff", "svg", "heic"})
WRITABLE = frozenset({"jpg", "png", "webp", "avif", "gif", "tiff"})


def choose(output: Output, *, source: str, alpha: bool, animated: bool) -> str:
    """The concrete format of a result, from the wish and what the running picture is. Raises NotInThisBuild."""
    if output.format not in ("auto", "source"):
        return _writable(output.format)
    offers = [name for name in output.offers if name in WRITABLE and (not animated or FORMATS[name].animation)]
    if output.format == "auto" and offers:
        return offers[0]
    return _plain(source, alpha=alpha, animated=animated, modern=output.format == "source")


def _plain(source: str, *, alpha: bool, animated: bool, modern: bool) -> str:
    """What any browser shows; with `modern` also the source's own newer format, which its owner chose."""
    if animated:
        return "webp" if source == "webp" and modern else "gif"
    kept = {"jpg", "png", "gif", "webp", "avif"} if modern else {"jpg", "png", "gif"}
    if source in kept and (not alpha or FORMATS[source].alpha):
        return source
    return "png" if alpha else "jpg"


def _writable(name: str) -> str:
    if name not in WRITABLE:
        raise NotInThisBuild(f"f: this build cannot write {name}", argument="f", value=name)
    return name


def quality_of(output: Output, name: str) -> int:
    """The number given to the encoder; formats without a lossy mode ignore it."""
    if isinstance(output.quality, int):
        return output.quality
    level = "good" if output.quality == "auto" else output.quality
    return QUALITY_LEVELS.get(name, QUALITY_LEVELS["jpg"])[level]
