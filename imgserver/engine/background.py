"""What fills the space around a picture: a color, its rim going on, itself blurred, or its rim's mean color."""

from imgserver.engine.color import background, colored, premultiplied, resized, with_alpha
from imgserver.engine.frames import Picture
from imgserver.engine.vips import Image
from imgserver.plan.geometry import Box
from imgserver.plan.plan import TRANSPARENT, Color, Fill

# A blurred ground is made this small and scaled up again: nobody sees more of it, and it costs next to nothing.
GROUND_SIDE = 96
GROUND_SIGMA = 5


def laid(picture: Picture, box: Box, size: tuple[int, int], fill: Fill) -> Picture:
    """The picture at `box` on a canvas of `size`."""
    if fill == "edge":
        return picture.each(lambda image: image.embed(box.left, box.top, *size, extend="copy"))
    if isinstance(fill, Color):
        return picture.each(lambda image: _on_color(image, box, size, fill))
    still = picture.settled()
    if fill == "blur":
        return still.each(lambda image: _on_itself(image, box, size))
    return still.each(lambda image: _on_color(image, box, size, rim_color(still.first)))


def _on_color(image: Image, box: Box, size: tuple[int, int], fill: Color) -> Image:
    image = colored(image) if not fill.red == fill.green == fill.blue else image
    image = image if fill.alpha == 255 else with_alpha(image)
    return image.embed(box.left, box.top, *size, extend="background", background=background(image, fill))


def _on_itself(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """Its own picture covering the canvas, blurred."""
    opaque = image.flatten(background=[255]) if image.hasalpha() else image
    cover = max(size[0] / image.width, size[1] / image.height)
    shrink = min(1.0, GROUND_SIDE / max(size))
    wide, high = (max(1, round(side * cover * shrink)) for side in (image.width, image.height))
    small = resized(opaque, wide, high).gaussblur(GROUND_SIGMA)
    across, down = (min(max(1, round(side * shrink)), now) for side, now in zip(size, (wide, high), strict=True))
    ground = small.crop((wide - across) // 2, (high - down) // 2, across, down)
    ground = ground.resize(size[0] / across, vscale=size[1] / down, kernel="cubic")
    if not image.hasalpha():
        return ground.insert(image, box.left, box.top)
    over = image.embed(box.left, box.top, *size, extend="background", background=[0] * image.bands)
    return ground.composite2(over, "over").cast("uchar").flatten()


def rim_color(image: Image) -> Color:
    """The mean color of the outermost pixels; what is transparent does not count."""
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
    """Each band's sum: column 2 of libvips' statistics, below a row for all bands together."""
    table = image.stats()
    return [float(table.getpoint(2, band + 1)[0]) for band in range(image.bands)]
