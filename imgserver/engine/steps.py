"""The steps as libvips calls. Every size comes from `plan.geometry.bind`; this module only produces it.

Before the first Fit the image may be loaded at a smaller size than its bound says (see `geometry.share_needed`). A Crop
before that Fit scales its window to the loaded size, and the Fit then produces its size exactly.
"""

import math
from fractions import Fraction

from imgserver.engine.background import place_on_canvas
from imgserver.engine.color import (
    background,
    colored,
    colored_for,
    flattened,
    premultiplied,
    resize_image,
    unpremultiplied,
    with_alpha,
)
from imgserver.engine.effects import apply_kernel, apply_mask, apply_tone
from imgserver.engine.frames import Frames
from imgserver.engine.vips import Image, interpolator, working
from imgserver.engine.window import Window
from imgserver.plan.geometry import Bound, Box, Size, whole
from imgserver.plan.plan import Canvas, Color, Crop, Fit, Flatten, Kernel, Mask, Orient, Step, Tone, Trim, Turn


def apply(frames: Frames, bound: Bound, *, linear: bool) -> Frames:
    """The frames after one step. Raises BrokenImage if it must read pixels of a broken original, and ServerFault if
    libvips cannot run the step."""
    with working():
        match bound.step:
            case Orient(mode=mode):
                return apply_motion(frames, bound.before.orientation if mode == "exif" else mode)
            case Trim() as trim:
                return _trim(frames, trim)
            case Crop() as crop:
                return _crop(frames, crop, bound)
            case Fit():
                return apply_finish(resize(frames, bound.scaled, linear=linear), bound)
            case Canvas(fill=fill) if bound.box:
                return place_on_canvas(frames, bound.box, bound.size, fill)
            case Turn() as turn:
                return _rotate(frames, turn, bound.size)
            case step:
                return _change_values(frames, step)


def _change_values(frames: Frames, step: Step) -> Frames:
    """The steps that do not change the size."""
    match step:
        case Tone():
            return frames.each(lambda image: apply_tone(image, step))
        case Kernel():
            return frames.in_memory().each(lambda image: apply_kernel(image, step))
        case Mask():
            return frames.each(lambda image: apply_mask(image, step))
        case Flatten(color=color):
            return frames.each(lambda image: _flatten(image, color) if image.hasalpha() else image)
        case _:
            return frames


def apply_motion(frames: Frames, motion: int) -> Frames:
    """The frames after a rigid motion, given as the EXIF orientation (1-8) that it undoes."""
    if motion == 1:
        return frames
    # Mirroring left to right keeps the order of the lines. All other motions read the lines in another order.
    still = frames if motion == 2 else frames.in_memory()
    return still.each(lambda image: _move(image, motion))


def _move(image: Image, motion: int) -> Image:
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


def _trim(frames: Frames, step: Trim) -> Frames:
    """Cuts the border that no frame has content in; an image that is all border stays unchanged."""
    still = frames.in_memory()
    boxes = [box for image in still.images if (box := _content_box(step, image))]
    if not boxes:
        return still
    left = max(min(box[0] for box in boxes) - step.pad, 0)
    top = max(min(box[1] for box in boxes) - step.pad, 0)
    right = min(max(box[0] + box[2] for box in boxes) + step.pad, still.width)
    bottom = min(max(box[1] + box[3] for box in boxes) + step.pad, still.height)
    return still.each(lambda image: image.crop(left, top, right - left, bottom - top))


def _content_box(step: Trim, image: Image) -> tuple[int, int, int, int] | None:
    """Left, top, width and height of what differs from the border; None if nothing does."""
    if step.by == "alpha":
        alpha = image.extract_band(image.bands - 1) if image.hasalpha() else None
        box = alpha.find_trim(threshold=step.tolerance, background=[0]) if alpha is not None else (0, 0, 0, 0)
    else:
        opaque = image.flatten(background=[255]) if image.hasalpha() else image
        opaque = colored_for(opaque, step.color) if step.color else opaque
        border = background(opaque, step.color) if step.color else opaque.getpoint(0, 0)
        box = opaque.find_trim(threshold=step.tolerance, background=border)
    return tuple(box) if box[2] and box[3] else None


def _crop(frames: Frames, step: Crop, bound: Bound) -> Frames:
    assert bound.box is not None
    box = loaded_box(bound.box, (bound.before.width, bound.before.height), frames)
    if step.anchor.is_smart:
        return _smart_crop(frames, (box.width, box.height), step.anchor.kind)
    return crop_to(frames, box)


def loaded_box(box: Box, size: Size, frames: Frames) -> Box:
    """A window of an image of `size`, in the pixels of the frames, which may be loaded at a reduced size; never
    empty."""
    sx, sy = Fraction(frames.width, size[0]), Fraction(frames.height, size[1])
    left, top = min(whole(box.left * sx), frames.width - 1), min(whole(box.top * sy), frames.height - 1)
    right, bottom = whole((box.left + box.width) * sx), whole((box.top + box.height) * sy)
    return Box(left, top, max(min(right, frames.width) - left, 1), max(min(bottom, frames.height) - top, 1))


def crop_to(frames: Frames, box: Box) -> Frames:
    if box == Box(0, 0, frames.width, frames.height):
        return frames
    return frames.each(lambda image: image.crop(box.left, box.top, box.width, box.height))


def _smart_crop(frames: Frames, size: Size, kind: str) -> Frames:
    """Cuts the window that libvips finds in the first frame from all frames: separate windows would make an animation
    jump."""
    if size == (frames.width, frames.height):
        return frames
    still = frames.in_memory()
    window = still.first.smartcrop(*size, interesting=kind)
    return crop_to(still, Box(-window.xoffset, -window.yoffset, *size))


def resize(frames: Frames, size: Size, *, linear: bool, window: Window | None = None) -> Frames:
    """The frames, or their `window`, at exactly this size. `linear`: mixes in linear light."""
    return frames.each(lambda image: resize_image(image, *size, linear=linear, window=window))


def apply_finish(frames: Frames, bound: Bound) -> Frames:
    """The crop or the padding of a Fit, after its scaling."""
    step = bound.step
    assert isinstance(step, Fit)
    if bound.box is None or bound.size == bound.scaled:
        return frames
    if step.finish == "pad":
        return place_on_canvas(frames, bound.box, bound.size, step.fill)
    return _smart_crop(frames, bound.size, step.anchor.kind) if step.anchor.is_smart else crop_to(frames, bound.box)


def _rotate(frames: Frames, step: Turn, size: Size) -> Frames:
    rigid = apply_motion(frames, step.motion)
    degrees = step.degrees % 360
    if degrees % 90 == 0:
        return apply_motion(rigid, {0: 1, 90: 6, 180: 3, 270: 8}[degrees])
    fill = step.fill if isinstance(step.fill, Color) else Color(0, 0, 0, 0)
    return rigid.in_memory().each(lambda image: _tilt(image, degrees, size, fill))


def _tilt(image: Image, degrees: int, size: Size, fill: Color) -> Image:
    """Turned about the center, on a canvas of the bound size. libvips would at times choose a canvas that differs by a
    pixel."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    source = with_alpha(colored(image) if image.bands <= 2 else image)
    # libvips maps the centers of pixels, not their corners.
    x, y = (source.width - 1) / 2, (source.height - 1) / 2
    shift = {"odx": (size[0] - 1) / 2 - (cos * x - sin * y), "ody": (size[1] - 1) / 2 - (sin * x + cos * y)}
    # A transparent background lets the edge of the image blend into its surroundings.
    # In memory, because the tiles of a turned image overlap: libvips would compute each pixel several times.
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
    clear = unpremultiplied(mixed, source)
    return clear if fill.alpha == 0 else _flatten(clear, fill)


def _flatten(image: Image, fill: Color) -> Image:
    """The image over a color, which may be translucent."""
    if fill.alpha == 255:
        return flattened(image, fill)
    image = colored_for(image, fill)
    canvas = image.new_from_image(background(image, fill)).cast("uchar").copy(interpretation=image.interpretation)
    return canvas.composite2(image, "over").cast("uchar")
