"""What the samples of a TIFF mean: which of them are colors and which is alpha (TIFF 6.0, sections 18 and 21)."""

from imgserver.engine.tiff.fields import (
    BITS,
    COMPRESSION,
    EXTRA_SAMPLES,
    PHOTOMETRIC,
    PLANAR,
    REFERENCE_BLACK_WHITE,
    SAMPLE_FORMAT,
    SAMPLES,
    YCBCR_COEFFICIENTS,
    YCBCR_SUBSAMPLING,
    Fields,
    first,
)
from imgserver.engine.vips import Image
from imgserver.errors import UnsupportedImage

# None, CCITT (three kinds), LZW, JPEG, Deflate (two numbers), PackBits, WebP.
COMPRESSIONS = frozenset((1, 2, 3, 4, 5, 7, 8, 32946, 32773, 50001))
UNCOMPRESSED, JPEG = 1, 7
# Samples of one color by photometric interpretation: white is zero, black is zero, RGB, palette, CMYK, YCbCr.
COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
YCBCR, SEPARATE = 6, 2
UNSIGNED, UNDEFINED = 1, 4
DEPTHS = frozenset((1, 2, 4, 8, 16))
# Values of ExtraSamples: associated and unassociated alpha. Other samples are spot colors and masks.
ALPHA = (1, 2)


def refuse_unsupported(fields: Fields) -> None:
    """Raises UnsupportedImage for a whole file of a kind that would be shown in black or in wrong colors."""
    if not fields:
        return
    if first(fields, COMPRESSION, UNCOMPRESSED) not in COMPRESSIONS:
        raise _unsupported("of this compression")
    if first(fields, PHOTOMETRIC, 1) not in COLORS:
        raise _unsupported("of this color space")
    # Nothing in the file says which value of a signed or floating point sample is white.
    if not set(fields.get(SAMPLE_FORMAT, ())) <= {UNSIGNED, UNDEFINED}:
        raise _unsupported("with signed or floating point samples")
    depths = set(fields.get(BITS, (1,)))
    if len(depths) > 1 or not depths <= DEPTHS:
        raise _unsupported(f"with {'/'.join(str(int(bits)) for bits in sorted(depths))} bits per sample")
    if _is_raw_ycbcr(fields) and (first(fields, BITS, 8) != 8 or _is_subsampled(fields) or _is_planar(fields)):
        raise _unsupported("with subsampled or planar YCbCr outside JPEG")


def shown(image: Image, fields: Fields) -> Image:
    """The image as libvips read it, with its colors in RGB and at most one sample besides the colors: alpha."""
    extra = first(fields, SAMPLES, 1) - COLORS.get(first(fields, PHOTOMETRIC, 1), image.bands)
    kinds = fields.get(EXTRA_SAMPLES, ALPHA[1:] if extra > 0 else ())
    image = _without_extra(image, max(0, extra), [int(kind) for kind in kinds])
    return _from_ycbcr(image, fields) if _is_raw_ycbcr(fields) and image.bands >= COLORS[YCBCR] else image


def _without_extra(image: Image, extra: int, kinds: list[int]) -> Image:
    colors = image.bands - extra
    if extra == 0 or colors < 1:
        return image
    alpha = next((index for index, kind in enumerate(kinds[:extra]) if kind in ALPHA), None)
    kept = image.extract_band(0, n=colors)
    if alpha is not None:
        kept = kept.bandjoin(image.extract_band(colors + alpha))
    if kept.bands == image.bands:
        return image
    # libvips takes gray with three further samples for RGB.
    return kept.copy(interpretation=_gray(image) if colors == 1 else image.interpretation)


def _gray(image: Image) -> str:
    return "grey16" if image.format == "ushort" else "b-w"


def _from_ycbcr(image: Image, fields: Fields) -> Image:
    """RGB from YCbCr (section 21). libtiff converts it in JPEG only."""
    red, green, blue = _three(fields.get(YCBCR_COEFFICIENTS), (0.299, 0.587, 0.114))
    limits = fields.get(REFERENCE_BLACK_WHITE, ())
    black = (limits[0], limits[2], limits[4]) if len(limits) == 6 else (0.0, 128.0, 128.0)
    white = (limits[1], limits[3], limits[5]) if len(limits) == 6 else (255.0, 255.0, 255.0)
    spans = [max(high - low, 1) for low, high in zip(black, white, strict=True)]
    gains = [255 / spans[0], 127 / spans[1], 127 / spans[2]]
    colors = image.extract_band(0, n=3).linear(gains, [-low * gain for low, gain in zip(black, gains, strict=True)])
    to_red, to_blue = 2 - 2 * red, 2 - 2 * blue
    matrix = Image.new_from_array(
        [[1, 0, to_red], [1, -to_blue * blue / green, -to_red * red / green], [1, to_blue, 0]]
    )
    rgb = colors.recomb(matrix).rint().cast("uchar").copy(interpretation="srgb")
    return rgb.bandjoin(image.extract_band(3)) if image.bands > 3 else rgb


def _three(values: tuple[float, ...] | None, default: tuple[float, float, float]) -> tuple[float, ...]:
    return values if values and len(values) == 3 and values[1] else default


def _is_raw_ycbcr(fields: Fields) -> bool:
    return first(fields, PHOTOMETRIC, 1) == YCBCR and first(fields, COMPRESSION, UNCOMPRESSED) != JPEG


def _is_subsampled(fields: Fields) -> bool:
    return fields.get(YCBCR_SUBSAMPLING, (2, 2)) != (1, 1)


def _is_planar(fields: Fields) -> bool:
    return first(fields, PLANAR, 1) == SEPARATE


def _unsupported(kind: str) -> UnsupportedImage:
    return UnsupportedImage(f"a TIFF {kind} cannot be read here", format="tiff")
