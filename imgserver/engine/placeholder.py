"""Placeholders for an image: a data URI (LQIP), BlurHash, ThumbHash, a palette. All are text."""

import base64
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import orjson

from imgserver.engine.color import colored, resize_image, with_alpha
from imgserver.engine.vips import Image, working
from imgserver.errors import NotInThisBuild
from imgserver.plan.plan import Terminal

LQIP_SIDE = 48
# More pixels than these change only the cost of a hash, not its value.
BLURHASH_SIDE = 64
THUMBHASH_SIDE = 100
PALETTE_SIDE = 64
Pixel = tuple[int, int, int]

PLAIN = "text/plain; charset=utf-8"
JSON = "application/json"
# The longest side of the image that each kind is computed from, in pixels.
SIDES = {"lqip": LQIP_SIDE, "blurhash": BLURHASH_SIDE, "thumbhash": THUMBHASH_SIDE, "palette": PALETTE_SIDE}


def make_placeholder(image: Image, terminal: Terminal) -> tuple[bytes, str]:
    """Body and media type for the terminal `lqip`, `blurhash`, `thumbhash` or `palette`. Raises NotInThisBuild."""
    with working():
        small = _within(colored(image), SIDES[terminal.kind])
        match terminal.kind:
            case "lqip":
                return _lqip(small), PLAIN
            case "blurhash":
                return _blurhash(small).encode(), PLAIN
            case "thumbhash":
                return _thumbhash(small).encode(), PLAIN
            case _:
                return orjson.dumps(palette(_opaque_pixels(small), terminal.colors)), JSON


def _within(image: Image, side: int) -> Image:
    scale = min(Fraction(1), Fraction(side, max(image.width, image.height)))
    return resize_image(image, max(1, round(image.width * scale)), max(1, round(image.height * scale))).copy_memory()


def _lqip(image: Image) -> bytes:
    body = image.webpsave_buffer(Q=45, effort=4, keep="none")
    return b"data:image/webp;base64," + base64.b64encode(body)


def _blurhash(image: Image) -> str:
    # This import loads Pillow, so only workers that compute a hash do it.
    from blurhash_rs._lib import encode_rgb

    flat = image.flatten(background=[255]) if image.hasalpha() else image
    across, down = (4, 3) if flat.width >= flat.height else (3, 4)
    return str(encode_rgb(bytes(flat.write_to_memory()), flat.width, flat.height, across, down))


def _thumbhash(image: Image) -> str:
    """The hash in base64, as its authors write it in URLs and HTML."""
    try:
        from fast_thumbhash import rgba_to_thumb_hash
    except ImportError:  # setup.cfg says for which platforms there is no package
        raise NotInThisBuild("f_thumbhash needs a package that this Python does not have", argument="f") from None
    pixels = bytes(with_alpha(image).write_to_memory())
    return base64.b64encode(bytes(rgba_to_thumb_hash(image.width, image.height, pixels))).decode()


def _opaque_pixels(image: Image) -> list[Pixel]:
    data = bytes(image.write_to_memory())
    step = image.bands
    pixels = zip(data[0::step], data[1::step], data[2::step], strict=True)
    if step == 3:
        return list(pixels)
    return [pixel for pixel, alpha in zip(pixels, data[3::4], strict=True) if alpha >= 128]


def palette(pixels: Sequence[Pixel], colors: int) -> list[dict[str, str | float]]:
    """Up to `colors` colors by median cut, the most frequent first, each with its share of the pixels (0 to 1)."""
    boxes = [list(pixels)] if pixels else []
    while boxes and len(boxes) < colors:
        widest = max(boxes, key=_spread)
        if _spread(widest) == 0:
            break
        boxes.remove(widest)
        boxes += _halves(widest)
    shares = Counter({_mean(box): 0 for box in boxes})
    for box in boxes:
        shares[_mean(box)] += len(box)
    return [
        {"color": "#{:02x}{:02x}{:02x}".format(*color), "share": round(count / len(pixels), 4)}
        for color, count in shares.most_common()
    ]


def _ranges(box: list[Pixel]) -> tuple[int, ...]:
    return tuple(max(column) - min(column) for column in zip(*box, strict=True))


def _spread(box: list[Pixel]) -> int:
    return max(_ranges(box)) * len(box)


def _halves(box: list[Pixel]) -> list[list[Pixel]]:
    """The box cut at the middle of the values of its widest channel, so that a rare but distinct color gets a box."""
    ranges = _ranges(box)
    channel = ranges.index(max(ranges))
    values = [pixel[channel] for pixel in box]
    middle = (min(values) + max(values)) / 2
    return [[p for p in box if p[channel] <= middle], [p for p in box if p[channel] > middle]]


def _mean(box: list[Pixel]) -> Pixel:
    red, green, blue = (round(sum(column) / len(box)) for column in zip(*box, strict=True))
    return red, green, blue
