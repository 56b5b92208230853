"""The plan: what a URL asks for, as frozen values. No file, no request, no setting, no float.

A plan is an ordered list of steps, how to write the result, and the last act. Everything after the parser reads the
plan; its canonical text is its identity. Arithmetic on it is in `plan/geometry.py`.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

# Begins the hashed text of every identity. Bump it with any change of a default, meaning, quality table or rounding.
PLAN_VERSION = 1

Number = int | Fraction


@dataclass(frozen=True, slots=True)
class Px:
    """A length in pixels; fractions come from dpr."""

    value: Number


@dataclass(frozen=True, slots=True)
class Rel:
    """A share of the running image's axis at the moment the step runs."""

    share: Fraction


Length = Px | Rel
ZERO = Px(0)


@dataclass(frozen=True, slots=True)
class Color:
    """sRGB, each channel 0-255; a = 255 is opaque."""

    red: int
    green: int
    blue: int
    alpha: int = 255


BLACK = Color(0, 0, 0)
WHITE = Color(255, 255, 255)
TRANSPARENT = Color(0, 0, 0, 0)

# edge: the rim's pixels go on; blur: the picture itself, blurred; auto: the mean color of its rim.
Fill = Color | Literal["edge", "blur", "auto"]

Compass = Literal["center", "north", "north_east", "east", "south_east", "south", "south_west", "west", "north_west"]
Smart = Literal["attention", "entropy"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a window lies. `kind` is a compass word, a smart rule, or `focal`: then (fx, fy) is the point to keep.

    (dx, dy) move it inward from the anchored edge, right and down from the center.
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
    """Applies an orientation: the file's own (`exif`), or 1-8 as EXIF counts. Always first when present."""

    mode: Literal["exif"] | int = "exif"


@dataclass(frozen=True, slots=True)
class Trim:
    """Cuts the rim. Its size depends on content: the one step that stops static binding."""

    by: Literal["auto", "color", "alpha"] = "auto"
    color: Color | None = None
    tolerance: int = 10
    pad: int = 0


@dataclass(frozen=True, slots=True)
class Crop:
    """Cuts a window without scaling. A missing side is the whole axis, unless `ratio` gives the window's shape.

    With `ratio` the window is the largest of that shape, divided by `zoom`.
    """

    width: Length | None = None
    height: Length | None = None
    ratio: Fraction | None = None
    anchor: Anchor = CENTER
    zoom: Fraction = Fraction(1)
    outside: Literal["clip", "reject"] = "clip"


@dataclass(frozen=True, slots=True)
class Fit:
    """Every resize. How the four policies work together is told in `plan/geometry.py`."""

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
    """A border: straight margins around the picture (top, right, bottom, left)."""

    margins: tuple[Length, Length, Length, Length] = (ZERO, ZERO, ZERO, ZERO)
    fill: Fill = BLACK


@dataclass(frozen=True, slots=True)
class Turn:
    """A rigid motion, named by the EXIF orientation that undoes to it (1 is neutral), or a free angle clockwise.

    `motion` 2 mirrors left-right, 3 turns by 180, 4 mirrors top-bottom, 5 transposes, 6 turns by 90 clockwise,
    7 transverses, 8 turns by 270 clockwise. With `degrees` the canvas grows to the bounding box, filled with `fill`.
    """

    motion: int = 1
    degrees: int = 0
    fill: Fill = TRANSPARENT


ToneName = Literal["brightness", "contrast", "saturation", "hue", "gamma", "grayscale", "sepia", "negate", "opacity"]


@dataclass(frozen=True, slots=True)
class Tone:
    """A change of values. brightness, contrast, saturation: a factor, 1 neutral; gamma: an exponent, 1 neutral;
    hue: degrees, 0 neutral; grayscale, sepia, negate: a share 0-1, 0 neutral; opacity: a share 0-1, 1 neutral."""

    name: ToneName
    amount: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A neighborhood operation; `amount` in px of the running picture (blur: sigma; sharpen: strength)."""

    name: Literal["blur", "sharpen", "pixelate"]
    amount: Number = 1


@dataclass(frozen=True, slots=True)
class Mask:
    """Makes corners transparent: four radii (top left, top right, bottom right, bottom left), or an ellipse."""

    radii: tuple[Number, Number, Number, Number] = (0, 0, 0, 0)
    ellipse: bool = False


@dataclass(frozen=True, slots=True)
class Flatten:
    """Fills whatever is transparent."""

    color: Color = WHITE


Step = Orient | Trim | Crop | Fit | Canvas | Turn | Tone | Kernel | Mask | Flatten

Level = Literal["best", "good", "eco", "low"]


@dataclass(frozen=True, slots=True)
class Output:
    """How the result is written.

    `format`: a concrete name of `plan/formats.py`, `source` (the format of the source, read from its bytes), or `auto`
    (the best of `offers`, which negotiation fills in order of preference; before negotiation it is empty).
    `quality`: 1-100 or a level word, `auto` before negotiation.
    `frames`: all, first, or the page's number from 1. `effort`: the encoder's
    own scale, None lets the engine's budget choose.
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
    """The last act: the image, or what is told about it. `colors` counts the palette's entries."""

    kind: Literal["image", "info", "blurhash", "thumbhash", "lqip", "palette"] = "image"
    colors: int = 5


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...] = ()
    output: Output = field(default_factory=Output)
    terminal: Terminal = field(default_factory=Terminal)


@dataclass(frozen=True, slots=True)
class Dims:
    """What `bind` is given and gives back: pixels as stored, the EXIF orientation still to apply, frames."""

    width: int
    height: int
    orientation: int = 1
    frames: int = 1


@dataclass(frozen=True, slots=True)
class SourceRef:
    """Which original: a configured source's name and the path inside it, decoded once, without dot segments."""

    source: str
    path: str


# What a client may say about itself that a URL can ask for.
Hint = Literal["width", "pixel_ratio", "save_data"]


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What a dialect makes of a URL. `attachment` is None, or the file name wish ("" keeps the source's name).

    `not_found_hint` is the 404's hint when a first folder reads like a misspelt option: what it may have been meant as.
    `signed`: with a signature that fits. `expires`: the second of the epoch at which the URL ends, signed URLs only.
    Neither is a part of the picture's identity.
    `hints` are the client's that the plan depends on; the plan is the one for those that the dialect was given.
    """

    ref: SourceRef
    plan: Plan
    attachment: str | None = None
    not_found_hint: str | None = None
    signed: bool = False
    expires: int | None = None
    hints: tuple[Hint, ...] = ()
