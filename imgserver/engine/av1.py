"""The sequence header of an AV1 stream, as far as it says how samples are stored (AV1 specification, 5.5)."""

from dataclasses import dataclass

SEQUENCE_HEADER = 1
# Units before the sequence header: a temporal delimiter, metadata.
MAX_UNITS = 8
SRGB = (1, 13, 0)


@dataclass(frozen=True, slots=True)
class Samples:
    """`is_monochrome`: there are no planes for color. `is_full_range`: black is 0, and not 16 of 255."""

    is_monochrome: bool
    is_full_range: bool


def samples_of(stream: bytes) -> Samples | None:
    """From the first bytes of a stream; None if they hold no whole sequence header."""
    at = 0
    for _ in range(MAX_UNITS):
        if at + 2 > len(stream):
            return None
        kind, has_extension, has_size = stream[at] >> 3 & 15, stream[at] & 4, stream[at] & 2
        at += 2 if has_extension else 1
        size, at = _leb128(stream, at) if has_size else (len(stream) - at, at)
        if kind == SEQUENCE_HEADER:
            return _sequence_header(_Bits(stream[at : at + size]))
        at += size
    return None


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """The number at the offset `at` (4.10.5), and the offset after it."""
    value = 0
    for index, byte in enumerate(stream[at : at + 8]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    return len(stream), at


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """The next bits. Raises EOFError."""
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & (1 << count) - 1


def _sequence_header(bits: _Bits) -> Samples | None:
    try:
        profile, _, is_reduced = bits.read(3), bits.read(1), bits.read(1)
        if is_reduced:
            bits.read(5)
        else:
            _skip_operating_points(bits)
        width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
        bits.read(width_bits + height_bits)
        if not is_reduced and bits.read(1):  # numbers of frames
            bits.read(7)
        bits.read(3)
        if not is_reduced:
            _skip_tools(bits)
        bits.read(3)
        return _color_config(bits, profile)
    except EOFError:
        return None


def _skip_operating_points(bits: _Bits) -> None:
    """Raises EOFError, also for a stream with timing information, which no still picture has."""
    if bits.read(1):
        raise EOFError
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:  # the level
            bits.read(1)
        if has_delay and bits.read(1):
            bits.read(4)


def _skip_tools(bits: _Bits) -> None:
    bits.read(4)
    has_order_hint = bits.read(1)
    if has_order_hint:
        bits.read(2)
    screen_content = 2 if bits.read(1) else bits.read(1)
    if screen_content and not bits.read(1):
        bits.read(1)
    if has_order_hint:
        bits.read(3)


def _color_config(bits: _Bits, profile: int) -> Samples:
    is_deep = bits.read(1)
    if profile == 2 and is_deep:
        bits.read(1)
    is_monochrome = profile != 1 and bool(bits.read(1))
    described = (bits.read(8), bits.read(8), bits.read(8)) if bits.read(1) else None
    if not is_monochrome and described == SRGB:
        return Samples(is_monochrome, is_full_range=True)
    return Samples(is_monochrome, bool(bits.read(1)))
