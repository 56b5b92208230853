"""The time to verify a signature, valid or forged."""

import statistics
import time

from benchmarks.harness import Row
from imgserver.errors import SignatureRefused
from imgserver.security.signing import Keyring, SigningKey

TURNS = 5
CHECKS = 2_000
KEYS = 3
# The length of a usual URL, and the maximum.
LENGTHS = (100, 8_000)


def measure_signatures() -> list[Row]:
    """With KEYS keys. The last one made the valid signature, so all keys are tried for a valid and for a forged one."""
    keyring = Keyring(tuple(SigningKey(bytes([number] * 32)) for number in range(KEYS)))
    return [_row(keyring, length) for length in LENGTHS]


def _row(keyring: Keyring, length: int) -> Row:
    text = "w_800,q_80/" + "a" * (length - 11)
    good = Keyring(keyring.keys[-1:]).sign(text, source="photos")
    turns = [(_micros(keyring, good, text), _micros(keyring, "A" * len(good), text)) for _ in range(TURNS)]
    valid, forged = (statistics.median(column) for column in zip(*turns, strict=True))
    return Row(
        f"a signature over {length} bytes, {KEYS} keys",
        f"valid {valid:.1f} µs, forged {forged:.1f} µs",
        "< 50 µs",
        max(valid, forged) < 50,
        {"columns": "valid, forged; µs", "turns": turns},
    )


def _micros(keyring: Keyring, mac: str, text: str) -> float:
    begun = time.perf_counter()
    for _ in range(CHECKS):
        try:
            keyring.check(mac, text)
        except SignatureRefused:
            continue
    return (time.perf_counter() - begun) / CHECKS * 1e6
