"""What fills the canvas around an image: a color, its edge pixels, a blurred copy, or the mean color of its border."""

from imgserver.engine.color import background, colored, colored_for, premultiplied, resize_image, with_alpha
from imgserver.engine.frames import Frames
from imgserver.engine.vips import Image
from imgserver.plan.geometry import Box
from imgserver.plan.plan import TRANSPARENT, Color, Fill

# A blurred background is computed at this size and scaled up: the blur hides the difference, and it costs very little.
BLUR_SIDE = 96
BLUR_SIGMA = 5


def place_on_canvas(frames: Frames, box: Box, size: tuple[int, int], fill: Fill) -> Frames:
    """The frames at `box` on a canvas of `size`, which `fill` fills."""
    if fill == "edge":
        return frames.each(lambda image: image.embed(box.left, box.top, *size, extend="copy"))
    if isinstance(fill, Color):
        return frames.each(lambda image: _on_color(image, box, size, fill))
    still = frames.in_memory()
    if fill == "blur":
        return still.each(lambda image: _on_blur(image, box, size))
    return still.each(lambda image: _on_color(image, box, size, border_color(still.first)))


def _on_color(image: Image, box: Box, size: tuple[int, int], fill: Color) -> Image:
    image = colored_for(image, fill)
    image = image if fill.alpha == 255 else with_alpha(image)
    return image.embed(box.left, box.top, *size, extend="background", background=background(image, fill))


def _on_blur(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """On a blurred copy of the image that covers the canvas."""
    opaque = image.flatten(background=[255]) if image.hasalpha() else image
    cover = max(size[0] / image.width, size[1] / image.height)
    shrink = min(1.0, BLUR_SIDE / max(size))
    wide, high = (max(1, round(side * cover * shrink)) for side in (image.width, image.height))
    small = resize_image(opaque, wide, high).gaussblur(BLUR_SIGMA)
    across, down = (min(max(1, round(side * shrink)), now) for side, now in zip(size, (wide, high), strict=True))
    backdrop = small.crop((wide - across) // 2, (high - down) // 2, across, down)
    backdrop = backdrop.resize(size[0] / across, vscale=size[1] / down, kernel="cubic")
    if not image.hasalpha():
        return backdrop.insert(image, box.left, box.top)
    foreground = image.embed(box.left, box.top, *size, extend="background", background=[0] * image.bands)
    return backdrop.composite2(foreground, "over").cast("uchar").flatten()


def border_color(image: Image) -> Color:
    """The mean color of the outermost pixels, weighted by their alpha; transparent if all of them are."""
    image = colored(image)
    wide, high = image.width, image.height
    depth = max(1, min(wide, high) // 50)
    strips = (
        image.crop(0, 0, wide, depth),
        image.crop(0, high - depth, wide, depth),
        image.crop(0, 0, depth, high),
        image.crop(wide - depth, 0, depth, high),
    )
    sums = [_sums(premultiplied(strip)) for strip in strips]
    totals = [sum(column) for column in zip(*sums, strict=True)]
    pixels = 2 * depth * (wide + high)
    weight = totals[3] / 255 if image.hasalpha() else pixels
    if weight == 0:
        return TRANSPARENT
    red, green, blue = (min(255, round(total / weight)) for total in totals[:3])
    return Color(red, green, blue, round(255 * weight / pixels))


def _sums(image: Image) -> list[float]:
    """The sum of each band: column 2 of libvips' statistics, whose first row is for all bands together."""
    table = image.stats()
    return [float(table.getpoint(2, band + 1)[0]) for band in range(image.bands)]
