"""What the compressed pixels of a GIF hold, without decoding them (GIF89a, appendix F)."""

# 2 MiB take about a second.
MAX_BYTES = 2 * 1024 * 1024
MAX_CODE_BITS = 11
MAX_CODES = 4096


def count_pixels(codes: bytes, code_bits: int) -> tuple[int, frozenset[int]]:
    """The number of pixels, and the color indexes that occur, in the first MAX_BYTES of the data of a frame.

    `code_bits` is the size of the first code without its control codes. The data may end at any bit.
    """
    if not 1 <= code_bits <= MAX_CODE_BITS:
        return 0, frozenset()
    clear = 1 << code_bits
    # The lengths of the strings in the dictionary. A color that occurs has a code of its own before any string has it.
    roots = [1] * clear + [0, 0]
    lengths, bits, pixels, before = list(roots), code_bits + 1, 0, 0
    used: set[int] = set()
    buffer = held = 0
    for byte in codes[:MAX_BYTES]:
        buffer |= byte << held
        held += 8
        while held >= bits:
            code = buffer & (1 << bits) - 1
            buffer >>= bits
            held -= bits
            if code == clear:
                lengths, bits, before = list(roots), code_bits + 1, 0
                continue
            if code == clear + 1:
                return pixels, frozenset(used)
            if code < clear:
                used.add(code)
            if before and len(lengths) < MAX_CODES:
                lengths.append(before + 1)
                if len(lengths) == 1 << bits and bits < 12:
                    bits += 1
            if code >= len(lengths):  # no such string: the data is corrupt
                return pixels, frozenset(used)
            before = lengths[code]
            pixels += before
    return pixels, frozenset(used)
