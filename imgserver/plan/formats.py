"""Image formats: one row each, and the pure rules that choose a format and its quality.

A format from outside adds its row to `FORMATS` before the server starts, and its encoder to `engine.ENCODERS`.
"""

from dataclasses import dataclass

from imgserver.errors import NotInThisBuild
from imgserver.plan.plan import Canvas, Color, Fit, Flatten, Mask, Output, Plan, Step, Tone, Turn

# Numbers for the quality levels. A level means the same visual quality in each format, not the same number.
QUALITY_LEVELS: dict[str, dict[str, int]] = {
    "jpg": {"best": 90, "good": 80, "eco": 70, "low": 55},
    "webp": {"best": 88, "good": 78, "eco": 68, "low": 50},
    "avif": {"best": 72, "good": 58, "eco": 48, "low": 38},
    "jxl": {"best": 90, "good": 77, "eco": 66, "low": 50},
}

# Drawings and screenshots without loss, which become PNG.
LOSSLESS_BITMAPS = frozenset({"bmp", "ico"})


@dataclass(frozen=True, slots=True)
class Format:
    """What a format can hold, and what this package does with it.

    `name` is its name in URLs and in metrics. `suffix` ends the names of files that are written, `other_suffixes` also
    end the names of files that are read. `lossy` and `lossless` are the modes that the format has; only a lossy one
    has a quality. `progressive`: it can be written in passes. `web`: browsers show it.

    `max_side` (pixels) and `max_pixels` (of one frame) are the limits of the format or of its encoder; no setting
    lifts them. `readable` and `writable`: there is a decoder or an encoder for it.
    """

    name: str
    media_type: str
    suffix: str
    other_suffixes: tuple[str, ...] = ()
    alpha: bool = False
    animation: bool = False
    lossless: bool = False
    lossy: bool = True
    progressive: bool = False
    web: bool = True
    max_side: int = 65535
    max_pixels: int | None = None
    readable: bool = False
    writable: bool = False

    def excess(self, width: int, height: int) -> str:
        """The limit that an image of this size exceeds, in words; "" if the format can hold it."""
        if max(width, height) > self.max_side:
            return f"sides up to {self.max_side} px"
        if self.max_pixels is not None and width * height > self.max_pixels:
            return f"{self.max_pixels} pixels"
        return ""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Every suffix of this format's files, in lower case."""
        return self.suffix, *self.other_suffixes


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format(
            "jpg",
            "image/jpeg",
            ".jpg",
            (".jpeg",),
            progressive=True,
            # Of libjpeg; the format could hold 65,535.
            max_side=65500,
            readable=True,
            writable=True,
        ),
        Format(
            "png",
            "image/png",
            ".png",
            alpha=True,
            lossless=True,
            lossy=False,
            progressive=True,
            readable=True,
            writable=True,
        ),
        Format(
            "webp",
            "image/webp",
            ".webp",
            alpha=True,
            animation=True,
            lossless=True,
            max_side=16383,
            readable=True,
            writable=True,
        ),
        Format(
            "avif",
            "image/avif",
            ".avif",
            alpha=True,
            lossless=True,
            max_side=16384,
            # A larger AVIF takes too long for a live answer at any effort.
            max_pixels=12_000_000,
            readable=True,
            writable=True,
        ),
        Format(
            "gif",
            "image/gif",
            ".gif",
            alpha=True,
            animation=True,
            lossy=False,
            progressive=True,
            readable=True,
            writable=True,
        ),
        Format("jxl", "image/jxl", ".jxl", alpha=True, animation=True, lossless=True, web=False),
        Format(
            "tiff",
            "image/tiff",
            ".tif",
            (".tiff",),
            alpha=True,
            lossless=True,
            lossy=False,
            web=False,
            readable=True,
            writable=True,
        ),
        Format("svg", "image/svg+xml", ".svg", (".svgz",), alpha=True, web=False, readable=True),
        Format("bmp", "image/bmp", ".bmp", (".dib",), alpha=True, lossless=True, lossy=False, web=False, readable=True),
        Format(
            "ico",
            "image/vnd.microsoft.icon",
            ".ico",
            alpha=True,
            lossless=True,
            lossy=False,
            web=False,
            readable=True,
        ),
        Format("heic", "image/heic", ".heic", (".heif", ".hif"), alpha=True, web=False, readable=True),
    )
}


def format_of_suffix(suffix: str) -> Format | None:
    """The format that a file's name claims; None for an unknown suffix. `suffix` begins with a dot; case is ignored."""
    lower = suffix.lower()
    return next((row for row in FORMATS.values() if lower in row.suffixes), None)


def format_of_media_type(media_type: str) -> Format | None:
    """The format with this media type; None for a media type that is no image format of `FORMATS`."""
    for row in FORMATS.values():
        if row.media_type == media_type:
            return row
    return None


def is_writable(name: str) -> bool:
    """Whether this build can write the format `name`; False for an unknown name."""
    return name in FORMATS and FORMATS[name].writable


def choose(output: Output, *, source: str, source_alpha: bool, alpha: bool, animated: bool) -> str:
    """The name of the result's format. `source` is the format of the original, `source_alpha`: whether it has alpha;
    `alpha` and `animated` describe the image that is to be written. Raises NotInThisBuild for a format that cannot be
    written."""
    if output.format not in ("auto", "source"):
        return _writable(output.format)
    if output.format == "auto":
        for name in output.offers:
            if is_writable(name) and (not animated or FORMATS[name].animation):
                return name
    if animated:
        return "webp" if source == "webp" and output.format == "source" else "gif"
    if output.format == "auto":
        return _shown_everywhere(source, alpha=alpha)
    return _like_source(source, source_alpha=source_alpha, alpha=alpha)


def possible_formats(plan: Plan, source: str) -> frozenset[str]:
    """The names of the formats that an image of the plan can have, for any original in the format `source`. Raises
    NotInThisBuild."""
    movements = {False, FORMATS[source].animation}
    return frozenset(
        choose(plan.output, source=source, source_alpha=alpha, alpha=alpha_after(plan.steps, alpha), animated=animated)
        for alpha in {False, FORMATS[source].alpha}
        for animated in movements
    )


def alpha_after(steps: tuple[Step, ...], alpha: bool) -> bool:
    """Whether the image has an alpha channel after all steps. `alpha`: whether the original has one."""
    for step in steps:
        match step:
            case Flatten(color=color):
                alpha = alpha and color.alpha < 255
            case Mask() | Tone(name="opacity"):
                alpha = True
            case Fit(finish="pad", fill=Color(alpha=opacity)) | Canvas(fill=Color(alpha=opacity)):
                alpha = alpha or opacity < 255
            case Turn(degrees=degrees, fill=fill) if degrees % 90:
                alpha = not (isinstance(fill, Color) and fill.alpha == 255)
            case _:
                pass
    return alpha


def _shown_everywhere(source: str, *, alpha: bool) -> str:
    """A format that every client shows and that can hold the image."""
    if source in ("jpg", "png", "gif") and (not alpha or FORMATS[source].alpha):
        return source
    return "png" if alpha or source in LOSSLESS_BITMAPS else "jpg"


def _like_source(source: str, *, source_alpha: bool, alpha: bool) -> str:
    """The format of the original, which its owner chose, or the nearest one that browsers show.

    A photograph without alpha stays a JPEG, even with rounded corners: as a PNG it would have ten to twenty times the
    bytes. Its transparent parts get the background of the output.
    """
    if source in ("jpg", "png", "gif", "webp", "avif"):
        return source
    if source in LOSSLESS_BITMAPS:
        return "png"
    return "png" if alpha and source_alpha else "jpg"


def _writable(name: str) -> str:
    if not is_writable(name):
        raise NotInThisBuild(f"f: this build cannot write {name}", argument="f", value=name)
    return name


def quality_of(output: Output, name: str) -> int:
    """The number that the encoder of the format `name` gets, 1-100. Formats without a lossy mode ignore it."""
    if isinstance(output.quality, int):
        return output.quality
    level = "good" if output.quality == "auto" else output.quality
    return QUALITY_LEVELS.get(name, QUALITY_LEVELS["jpg"])[level]
