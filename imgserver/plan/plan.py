"""The plan: what a URL asks for, as frozen values. It contains no file, no request, no setting and no float.

A plan is an ordered list of steps, an output (how to encode the result), and a terminal (an image, or data about it).
All code after the dialect reads the plan. Its canonical text is its identity. `plan/geometry.py` has its arithmetic.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

# The first part of the text that is hashed for a key. Increase it with any change of a default, a meaning, a quality
# table or the rounding.
PLAN_VERSION = 2

Number = int | Fraction


@dataclass(frozen=True, slots=True)
class Px:
    """A length in pixels. A pixel ratio (dpr) can make it a fraction."""

    value: Number


@dataclass(frozen=True, slots=True)
class Rel:
    """A length as a fraction of an axis of the image that the step gets."""

    share: Fraction


Length = Px | Rel
ZERO = Px(0)


@dataclass(frozen=True, slots=True)
class Color:
    """A color in sRGB, each channel 0-255. An alpha of 255 is opaque."""

    red: int
    green: int
    blue: int
    alpha: int = 255


BLACK = Color(0, 0, 0)
WHITE = Color(255, 255, 255)
TRANSPARENT = Color(0, 0, 0, 0)

# edge: the outermost pixels are repeated; blur: a blurred copy of the image; auto: the mean color of its border.
Fill = Color | Literal["edge", "blur", "auto"]

Compass = Literal["center", "north", "north_east", "east", "south_east", "south", "south_west", "west", "north_west"]
Smart = Literal["attention", "entropy"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """The place of a window. `kind` is a compass point, a rule for a smart crop, or `focal`: then the window is
    centered on the point (fx, fy).

    (dx, dy) move the window inward from the anchored edge, or right and down from the center.
    """

    kind: Compass | Smart | Literal["focal"] = "center"
    fx: Length = ZERO
    fy: Length = ZERO
    dx: Length = ZERO
    dy: Length = ZERO

    @property
    def is_smart(self) -> bool:
        return self.kind in ("attention", "entropy")


CENTER = Anchor()


@dataclass(frozen=True, slots=True)
class Orient:
    """Applies an orientation: that of the file (`exif`), or an EXIF orientation 1-8. Always the first step, if
    present."""

    mode: Literal["exif"] | int = "exif"


@dataclass(frozen=True, slots=True)
class Trim:
    """Cuts the border. The size after it depends on the pixels: it is the only step that cannot be bound in advance.

    `by`: what the border is: the color of the corner (`auto`), `color`, or transparent pixels (`alpha`). `tolerance` is
    in levels of 255, `pad` in pixels.
    """

    by: Literal["auto", "color", "alpha"] = "auto"
    color: Color | None = None
    tolerance: int = 10
    pad: int = 0


@dataclass(frozen=True, slots=True)
class Crop:
    """Cuts a window without scaling. A missing side is the whole axis, unless `ratio` gives it.

    With `ratio` alone the window is the largest of that shape. `zoom` divides its sides. `outside`: whether a window
    that is partly outside the image is clipped or refused.
    """

    width: Length | None = None
    height: Length | None = None
    ratio: Fraction | None = None
    anchor: Anchor = CENTER
    zoom: Fraction = Fraction(1)
    outside: Literal["clip", "reject"] = "clip"


@dataclass(frozen=True, slots=True)
class Fit:
    """Every resize. `plan/fitting.py` says how its fields work together."""

    width: Length | None = None
    height: Length | None = None
    ratio: Fraction | None = None
    mode: Literal["contain", "cover", "exact"] = "contain"
    enlarge: Literal["deny", "allow", "shrink_box", "reject"] = "deny"
    shrink: bool = True
    finish: Literal["none", "crop", "pad"] = "none"
    anchor: Anchor = CENTER
    fill: Fill = TRANSPARENT


@dataclass(frozen=True, slots=True)
class Canvas:
    """Margins around the image (top, right, bottom, left), filled with `fill`."""

    margins: tuple[Length, Length, Length, Length] = (ZERO, ZERO, ZERO, ZERO)
    fill: Fill = BLACK


@dataclass(frozen=True, slots=True)
class Turn:
    """A rigid motion, then a turn by any angle in degrees, clockwise.

    `motion` has the number of the EXIF orientation that it corrects: 1 nothing, 2 mirrors left-right, 3 turns by 180, 4
    mirrors top-bottom, 5 transposes, 6 turns by 90 clockwise, 7 transverses, 8 turns by 270 clockwise. With `degrees`
    the canvas grows to the bounding box, and `fill` fills its corners.
    """

    motion: int = 1
    degrees: int = 0
    fill: Fill = TRANSPARENT


ToneName = Literal["brightness", "contrast", "saturation", "hue", "gamma", "grayscale", "sepia", "negate", "opacity"]


@dataclass(frozen=True, slots=True)
class Tone:
    """A change of each pixel by itself. The meaning of `amount`:

    brightness, contrast, saturation: a factor, 1 is neutral; gamma: an exponent, 1 is neutral; hue: degrees, 0 is
    neutral; grayscale, sepia, negate: a strength 0-1, 0 is neutral; opacity: a fraction 0-1, 1 is neutral.
    """

    name: ToneName
    amount: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A change of each pixel by its neighbors. `amount`: blur: sigma in pixels; sharpen: a strength; pixelate: the side
    of a block in pixels."""

    name: Literal["blur", "sharpen", "pixelate"]
    amount: Number = 1


@dataclass(frozen=True, slots=True)
class Mask:
    """Makes the corners transparent: four radii in pixels (top left, top right, bottom right, bottom left), or an
    ellipse that fills the image."""

    radii: tuple[Number, Number, Number, Number] = (0, 0, 0, 0)
    ellipse: bool = False


@dataclass(frozen=True, slots=True)
class Flatten:
    """Lays a transparent image on a color."""

    color: Color = WHITE


Step = Orient | Trim | Crop | Fit | Canvas | Turn | Tone | Kernel | Mask | Flatten

Level = Literal["best", "good", "eco", "low"]


@dataclass(frozen=True, slots=True)
class Output:
    """How the result is encoded.

    `format`: a name of `plan.formats.FORMATS`, `source` (the format of the original, from its first bytes), or `auto`
    (the first of `offers` that can hold the image; negotiation fills `offers` in order of preference).
    `quality`: 1-100 or a level; `auto` only before negotiation. `progressive`: None lets the engine choose.
    `effort`: on the scale of the encoder; None takes the effort of the settings. `metadata`: what is kept of it.
    `profile`: whether colors are converted to sRGB. `frames`: all, first, or the number of a page from 1.
    `background`: the color behind a transparent image in a format without alpha.
    """

    format: str = "source"
    offers: tuple[str, ...] = ()
    quality: int | Level | Literal["auto"] = "auto"
    lossless: bool = False
    progressive: bool | None = None
    effort: int | None = None
    metadata: Literal["none", "copyright", "all"] = "none"
    profile: Literal["srgb", "keep"] = "srgb"
    frames: Literal["auto", "all", "first"] | int = "auto"
    background: Color = WHITE


@dataclass(frozen=True, slots=True)
class Terminal:
    """The kind of the result: the image, or data about it. `colors` is the largest number of entries of a palette."""

    kind: Literal["image", "info", "blurhash", "thumbhash", "lqip", "palette"] = "image"
    colors: int = 5


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...] = ()
    output: Output = field(default_factory=Output)
    terminal: Terminal = field(default_factory=Terminal)


@dataclass(frozen=True, slots=True)
class Dims:
    """Dimensions: a size in pixels as stored, the EXIF orientation that is still to be applied, and the number of
    frames."""

    width: int
    height: int
    orientation: int = 1
    frames: int = 1


@dataclass(frozen=True, slots=True)
class SourceRef:
    """An original: the name of a configured source and a path inside it, decoded once, without dot segments."""

    source: str
    path: str


# The client hints that a plan can depend on.
Hint = Literal["width", "pixel_ratio", "save_data"]


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What a dialect reads from a URL.

    `attachment`: the file name for a download, "" for the name of the original; None: not a download.
    `not_found_hint`: for the message of a 404, if the first folder looks like a misspelled option.
    `signed`: the URL has a valid signature. `query_signed`: the signature covers the query as well. `expires`: the
    second of the epoch at which a signed URL expires. These five are no part of the identity of the image.
    `query_ignored`: the URL means the same with any other query, and is cached without it.
    `hints`: the client hints that the plan depends on. `plan` is the one for the hints that the dialect got.
    """

    ref: SourceRef
    plan: Plan
    attachment: str | None = None
    not_found_hint: str | None = None
    signed: bool = False
    query_signed: bool = False
    query_ignored: bool = False
    expires: int | None = None
    hints: tuple[Hint, ...] = ()
