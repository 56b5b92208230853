"""The natural size of an SVG by the rules of CSS: 96 px to the inch, `em` of 16 px.

width and height                 as declared; a percentage counts as missing
one of them, and a viewBox       the other follows from the proportion of the viewBox
neither, and a viewBox           the size of the viewBox
no viewBox                       300 px for a missing width, 150 px for a missing height
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from imgserver.errors import UnsupportedImage

# CSS Values and Units 4: absolute lengths in px, and font-relative lengths at the initial font size.
UNITS = {
    "": Fraction(1),
    "px": Fraction(1),
    "in": Fraction(96),
    "cm": Fraction(9600, 254),
    "mm": Fraction(960, 254),
    "q": Fraction(240, 254),
    "pt": Fraction(96, 72),
    "pc": Fraction(16),
    "em": Fraction(16),
    "rem": Fraction(16),
    "ex": Fraction(8),
    "ch": Fraction(8),
}
# CSS 2.1, 10.3.2 and 10.6.2.
DEFAULT_WIDTH, DEFAULT_HEIGHT = Fraction(300), Fraction(150)
NUMBER = r"[+-]?(?:[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(?:e[+-]?[0-9]{1,2}(?![0-9]))?"
LENGTH = re.compile(rf"\s*({NUMBER})\s*([a-z]*)\s*", re.IGNORECASE)
VIEW_BOX = re.compile(
    rf"\s*({NUMBER})(?:\s*,\s*|\s+)({NUMBER})(?:\s*,\s*|\s+)({NUMBER})(?:\s*,\s*|\s+)({NUMBER})\s*", re.I
)
# A declaration of a side in a `style` attribute, which wins over the attribute of the same name.
STYLE_SIDE = re.compile(r"(?i)(?:^|;)\s*(width|height)\s*:\s*([^;!]*)(![^;]*)?")


@dataclass(frozen=True, slots=True)
class NaturalSize:
    """`width` and `height` are in CSS pixels, over 0. `view_box` is the size of the viewBox, None without a usable
    one."""

    width: Fraction
    height: Fraction
    view_box: tuple[Fraction, Fraction] | None

    @property
    def fills(self) -> bool:
        """Whether the viewBox has the proportion of the image, so that it may be stretched by a fraction of a pixel."""
        if self.view_box is None:
            return True
        return abs(self.width * self.view_box[1] / (self.height * self.view_box[0]) - 1) < Fraction(1, 1000)


def natural_size(attributes: Mapping[str, str]) -> NaturalSize:
    """The natural size of a root element with these attributes. Raises UnsupportedImage for a side of 0 or less."""
    view_box = _view_box(attributes.get("viewBox", ""))
    declared = dict(attributes) | {
        name.lower(): value for name, value, _ in STYLE_SIDE.findall(attributes.get("style", ""))
    }
    width, height = (_length(name, declared.get(name, "")) for name in ("width", "height"))
    if view_box is not None:
        wide, high = view_box
        if width is None:
            width = wide if height is None else height * wide / high
        height = width * high / wide if height is None else height
    return NaturalSize(width or DEFAULT_WIDTH, height or DEFAULT_HEIGHT, view_box)


def _length(name: str, text: str) -> Fraction | None:
    """A length in px; None if it is missing, relative to what an image does not have, or not a length."""
    match = LENGTH.fullmatch(text)
    if match is None or (unit := UNITS.get(match[2].lower())) is None:
        return None
    length = Fraction(match[1]) * unit
    if length <= 0:
        raise UnsupportedImage(f'an SVG whose {name} is "{text.strip()[:40]}" has no area to draw', format="svg")
    return length


def _view_box(text: str) -> tuple[Fraction, Fraction] | None:
    """Width and height of a viewBox; None if it is missing, malformed or without area: browsers ignore it then."""
    match = VIEW_BOX.fullmatch(text)
    if match is None:
        return None
    width, height = Fraction(match[3]), Fraction(match[4])
    return (width, height) if width > 0 and height > 0 else None
