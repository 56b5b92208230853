"""Signatures: what they cover, which keys make them, and that a wrong one is never accepted."""

import pytest

from imgserver.errors import SignatureRefused
from imgserver.security.signing import Keyring, SigningKey, SigningSettings, read_key

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
REST = "w_800,q_80/photo.jpg"
MAC = "mVQWZncozB1VroorjC3Lcg"


def refusal(keyring: Keyring, mac: str | None, text: str = REST) -> str:
    with pytest.raises(SignatureRefused) as caught:
        keyring.check(mac, text)
    return caught.value.facts["reason"]


@pytest.mark.parametrize(
    ("rest", "mac"), [(REST, MAC), ("exp_1798761600/w_800,q_80/photo.jpg", "SYY5XNEtZ7yYz2xkDMis1A")]
)
def test_the_published_examples_hold(rest: str, mac: str) -> None:
    keyring = Keyring((SigningKey(KEY),))

    assert keyring.sign(rest, source="photos") == mac
    assert keyring.check(mac, rest) == SigningKey(KEY)


def test_every_flipped_bit_of_signature_and_text_is_refused() -> None:
    keyring = Keyring((SigningKey(OTHER), SigningKey(KEY)))

    for at in range(len(MAC)):
        for bit in range(7):
            flipped = MAC[:at] + chr(ord(MAC[at]) ^ 1 << bit) + MAC[at + 1 :]
            assert refusal(keyring, flipped) == "wrong"
    for at in range(len(REST)):
        for bit in range(7):
            assert refusal(keyring, MAC, REST[:at] + chr(ord(REST[at]) ^ 1 << bit) + REST[at + 1 :]) == "wrong"


def test_another_base64_text_of_the_same_bytes_is_refused() -> None:
    # 16 bytes leave four bits of the last letter unused, so `g` could as well be `h`.
    for mac in (MAC[:-1] + "h", MAC + "==", MAC + "A", MAC[:-1], "", MAC.lower()):
        assert refusal(Keyring((SigningKey(KEY),)), mac) == "wrong"


@pytest.mark.parametrize(("mac_bytes", "length"), [(16, 22), (20, 27), (32, 43)])
def test_a_signature_of_another_length_than_configured_is_refused(mac_bytes: int, length: int) -> None:
    keyring = SigningSettings(keys=(KEY.hex(),), signature_bytes=mac_bytes).keyring()
    mac = keyring.sign(REST, source="photos")

    assert len(mac) == length
    assert keyring.check(mac, REST) is not None
    assert [refusal(keyring, other) for other in (mac[:-1], mac[:11], mac + mac)] == ["wrong"] * 3


def test_urls_of_two_valid_keys_are_both_accepted() -> None:
    old, new = SigningKey(KEY), SigningKey(OTHER)
    before, overlap, after = Keyring((old,)), Keyring((new, old)), Keyring((new,))
    by_old, by_new = before.sign(REST, source="photos"), overlap.sign(REST, source="photos")

    assert by_new == after.sign(REST, source="photos") != by_old
    assert (overlap.check(by_old, REST), overlap.check(by_new, REST)) == (old, new)
    assert after.check(by_new, REST) == new
    assert refusal(after, by_old) == refusal(before, by_new) == "wrong"


def test_the_first_key_that_covers_a_source_signs_for_it() -> None:
    keyring = SigningSettings(keys=(f"shop+press={OTHER.hex()}", KEY.hex())).keyring()

    signed = {source: keyring.check(keyring.sign(REST, source=source), REST) for source in ("shop", "press", "photos")}
    assert {source: key and key.secret for source, key in signed.items()} == {
        "shop": OTHER,
        "press": OTHER,
        "photos": KEY,
    }


def test_signing_without_a_key_for_the_source_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="no key to sign URLs of the source photos"):
        SigningSettings(keys=(f"shop={KEY.hex()}",)).keyring().sign(REST, source="photos")


def test_a_missing_signature_is_refused_only_if_signatures_are_required() -> None:
    assert SigningSettings(keys=(KEY.hex(),)).keyring().check(None, REST) is None
    assert refusal(SigningSettings("required", keys=(KEY.hex(),)).keyring(), None) == "missing"


def test_without_keys_and_with_mode_off_every_signature_is_refused() -> None:
    assert refusal(Keyring(), MAC) == refusal(SigningSettings("off", keys=(KEY.hex(),)).keyring(), MAC) == "no_key"


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (("",), "key 1 is empty"),
        (("shop=",), "key 1 is empty"),
        ((KEY.hex(), "00" * 15), "key 2 has 15 bytes; at least 16 are needed"),
        (("0x" + "00" * 16,), "key 1 is not made of pairs of hex digits"),
        (("0" * 33,), "key 1 is not made of pairs of hex digits"),
        (("Shop=" + KEY.hex(),), "key 1 has something other than names of sources, joined by +, before the ="),
        ((KEY.hex(), f"shop={KEY.hex()}"), "key 2 is a duplicate"),
        (("", "beef"), "key 1 is empty; key 2 has 2 bytes; at least 16 are needed"),
    ],
)
def test_the_error_for_a_bad_key_does_not_show_it(keys: tuple[str, ...], fault: str) -> None:
    with pytest.raises(ValueError, match=r"^key") as caught:
        SigningSettings(keys=keys)

    assert str(caught.value) == fault


def test_required_signatures_need_a_key() -> None:
    with pytest.raises(ValueError, match="mode is required, but there are no keys"):
        SigningSettings("required")


def test_neither_the_repr_nor_the_id_reveals_a_key() -> None:
    settings = SigningSettings(keys=(KEY.hex(),))

    assert KEY.hex() not in repr(settings) + repr(settings.keyring())
    assert SigningKey(KEY).id == "373a1c1c"
    assert SigningKey(KEY).id not in KEY.hex()


@pytest.mark.parametrize("text", [KEY.hex(), f"shop={KEY.hex()}", f"press+shop={KEY.hex()}"])
def test_a_serialized_key_can_be_read(text: str) -> None:
    assert read_key(text).serialize() == text
