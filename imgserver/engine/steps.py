"""The steps as libvips calls. Every size comes from `geometry.bind`; here is only how it is reached.

Before the first Fit the picture may be loaded smaller than its bound says (see `geometry.share_needed`); a Crop there
scales its window to what was loaded, and the Fit hits its size exactly.
"""

import math
from fractions import Fraction

from imgserver.engine.background import laid
from imgserver.engine.color import background, colored, premultiplied, resized, straight, with_alpha
from imgserver.engine.effects import kernelled, masked, toned
from imgserver.engine.frames import Picture
from imgserver.engine.vips import Image, interpolator, working
from imgserver.plan.geometry import Bound, Box, Size, whole
from imgserver.plan.plan import Canvas, Color, Crop, Fit, Flatten, Kernel, Mask, Orient, Step, Tone, Trim, Turn


def apply(picture: Picture, bound: Bound, *, linear: bool) -> Picture:
    """One step done. Raises BrokenImage where it must read pixels, ServerFault if libvips refuses the work."""
    with working():
        match bound.step:
            case Orient(mode=mode):
                return turned(picture, bound.before.orientation if mode == "exif" else mode)
            case Trim() as trim:
                return _trimmed(picture, trim)
            case Crop() as crop:
                return _cropped(picture, crop, bound)
            case Fit():
                return finished(scaled(picture, bound.scaled, linear=linear), bound)
            case Canvas(fill=fill) if bound.box:
                return laid(picture, bound.box, bound.size, fill)
            case Turn() as turn:
                return _rotated(picture, turn, bound.size)
            case step:
                return _recolored(picture, step)


def _recolored(picture: Picture, step: Step) -> Picture:
    """The steps that keep the size."""
    match step:
        case Tone():
            return picture.each(lambda image: toned(image, step))
        case Kernel():
            return picture.settled().each(lambda image: kernelled(image, step))
        case Mask():
            return picture.each(lambda image: masked(image, step))
        case Flatten(color=color):
            return picture.each(lambda image: _under(image, color) if image.hasalpha() else image)
        case _:
            return picture


def turned(picture: Picture, motion: int) -> Picture:
    """A rigid motion, by the EXIF orientation it undoes."""
    if motion == 1:
        return picture
    # A mirror left to right keeps the order of lines; all others read them in another order.
    still = picture if motion == 2 else picture.settled()
    return still.each(lambda image: _moved(image, motion))


def _moved(image: Image, motion: int) -> Image:
    match motion:
        case 2:
            return image.fliphor()
        case 3:
            return image.rot180()
        case 4:
            return image.flipver()
        case 5:
            return image.rot90().fliphor()
        case 6:
            return image.rot90()
        case 7:
            return image.rot90().flipver()
        case 8:
            return image.rot270()
        case _:
            return image


def _trimmed(picture: Picture, step: Trim) -> Picture:
    """Cut to what differs from the rim in any frame; a picture that is all rim stays as it is."""
    still = picture.settled()
    boxes = [box for frame in still.frames if (box := _content(step, frame))]
    if not boxes:
        return still
    left = max(min(box[0] for box in boxes) - step.pad, 0)
    top = max(min(box[1] for box in boxes) - step.pad, 0)
    right = min(max(box[0] + box[2] for box in boxes) + step.pad, still.width)
    bottom = min(max(box[1] + box[3] for box in boxes) + step.pad, still.height)
    return still.each(lambda image: image.crop(left, top, right - left, bottom - top))


def _content(step: Trim, image: Image) -> tuple[int, int, int, int] | None:
    if step.by == "alpha":
        seen = image.extract_band(image.bands - 1) if image.hasalpha() else None
        box = seen.find_trim(threshold=step.tolerance, background=[0]) if seen is not None else (0, 0, 0, 0)
    else:
        opaque = image.flatten(background=[255]) if image.hasalpha() else image
        rim = background(opaque, step.color) if step.color else opaque.getpoint(0, 0)
        box = opaque.find_trim(threshold=step.tolerance, background=rim)
    return tuple(box) if box[2] and box[3] else None


def _cropped(picture: Picture, step: Crop, bound: Bound) -> Picture:
    assert bound.box is not None
    box = loaded_box(bound.box, (bound.before.width, bound.before.height), picture)
    if step.anchor.is_smart:
        return _smart(picture, (box.width, box.height), step.anchor.kind)
    return cut(picture, box)


def loaded_box(box: Box, size: Size, picture: Picture) -> Box:
    """A window of the full picture, in the pixels of the reduced one that was loaded; never empty."""
    sx, sy = Fraction(picture.width, size[0]), Fraction(picture.height, size[1])
    left, top = min(whole(box.left * sx), picture.width - 1), min(whole(box.top * sy), picture.height - 1)
    right, bottom = whole((box.left + box.width) * sx), whole((box.top + box.height) * sy)
    return Box(left, top, max(min(right, picture.width) - left, 1), max(min(bottom, picture.height) - top, 1))


def cut(picture: Picture, box: Box) -> Picture:
    if box == Box(0, 0, picture.width, picture.height):
        return picture
    return picture.each(lambda image: image.crop(box.left, box.top, box.width, box.height))


def _smart(picture: Picture, size: Size, kind: str) -> Picture:
    """The window libvips finds in the first frame, for all frames: a window of its own for each would jump."""
    if size == (picture.width, picture.height):
        return picture
    still = picture.settled()
    window = still.first.smartcrop(*size, interesting=kind)
    return cut(still, Box(-window.xoffset, -window.yoffset, *size))


def scaled(picture: Picture, size: Size, *, linear: bool) -> Picture:
    return picture.each(lambda image: resized(image, *size, linear=linear))


def finished(picture: Picture, bound: Bound) -> Picture:
    """A Fit's cut or padding, after the scaling."""
    step = bound.step
    assert isinstance(step, Fit)
    if bound.box is None or bound.size == bound.scaled:
        return picture
    if step.finish == "pad":
        return laid(picture, bound.box, bound.size, step.fill)
    return _smart(picture, bound.size, step.anchor.kind) if step.anchor.is_smart else cut(picture, bound.box)


def _rotated(picture: Picture, step: Turn, size: Size) -> Picture:
    rigid = turned(picture, step.motion)
    degrees = step.degrees % 360
    if degrees % 90 == 0:
        return turned(rigid, {0: 1, 90: 6, 180: 3, 270: 8}[degrees])
    fill = step.fill if isinstance(step.fill, Color) else Color(0, 0, 0, 0)
    return rigid.settled().each(lambda image: _tilted(image, degrees, size, fill))


def _tilted(image: Image, degrees: int, size: Size, fill: Color) -> Image:
    """About the center, on a canvas of the bound size; libvips' own choice of canvas is at times a pixel off."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    source = with_alpha(colored(image) if image.bands <= 2 else image)
    # Pixel centers, not corners, are what libvips maps.
    x, y = (source.width - 1) / 2, (source.height - 1) / 2
    shift = {"odx": (size[0] - 1) / 2 - (cos * x - sin * y), "ody": (size[1] - 1) / 2 - (sin * x + cos * y)}
    # A transparent rim lets the edge of the picture be mixed with what lies around it.
    # In memory, because tilted tiles overlap: computed lazily, each pixel would be made several times.
    mixed = (
        premultiplied(source)
        .copy_memory()
        .affine(
            [cos, -sin, sin, cos],
            interpolate=interpolator("bicubic"),
            oarea=[0, 0, *size],
            background=[0],
            extend="background",
            premultiplied=True,
            **shift,
        )
    )
    clear = straight(mixed, source)
    return clear if fill.alpha == 0 else _under(clear, fill)


def _under(image: Image, fill: Color) -> Image:
    """The image over a color, itself perhaps half transparent."""
    if fill.alpha == 255:
        return image.flatten(background=background(image, fill)[:-1])
    ground = image.new_from_image(background(image, fill)).cast("uchar").copy(interpretation=image.interpretation)
    return ground.composite2(image, "over").cast("uchar")
