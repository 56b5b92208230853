"""Percent-encoded unreserved characters are equal to plain ones (RFC 3986, 6.2.2.2), and nothing else is."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.dialects.native.lexer import decode, normalized
from imgserver.errors import BadOption, BadRequest, SignatureRefused
from imgserver.plan.canonical import key
from imgserver.plan.plan import SourceRef
from imgserver.security.signing import Keyring, SigningKey

DIALECT = NativeDialect(NativeSettings(), {"photos"}, "photos")
KEYRING = Keyring((SigningKey(bytes(range(32))),))
SIGNED = NativeDialect(NativeSettings(), {"photos"}, "photos", keyring=KEYRING)
UNRESERVED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"


def key_of(options: str) -> str:
    request = DIALECT.parse(f"/img/{options}/cat.jpg")
    return key(request.ref, request.plan)


@pytest.mark.parametrize(
    ("spelling", "plain"),
    [
        ("w%5F50", "w_50"),
        ("w%5f50", "w_50"),
        ("%77_50", "w_50"),
        ("w_%35%30", "w_50"),
        ("w_50,%68%5F50,c%5Ffill", "w_50,h_50,c_fill"),
        ("w_0%2E5", "w_0.5"),
        ("f_%77%65%62%70", "f_webp"),
        ("w_50/a%5F90", "w_50/a_90"),
        ("ar_16%3a9,w_50", "ar_16:9,w_50"),
        ("w_50/%5F", "w_50/_"),
    ],
)
def test_an_encoded_spelling_shares_the_cache_key(spelling: str, plain: str) -> None:
    assert key_of(spelling) == key_of(plain)


@given(st.data())
def test_any_characters_of_the_options_may_be_encoded(data: st.DataObject) -> None:
    plain = "c_fill,w_120,h_80,g_north_west,q_70,f_webp/e_blur:4,a_90"
    spelling = "".join(
        f"%{ord(char):02X}" if char in UNRESERVED and data.draw(st.booleans()) else char for char in plain
    )

    assert key_of(spelling) == key_of(plain)


@pytest.mark.parametrize(
    "options",
    ["w_50%2Ch_50", "w_%2050", "w_50%20", "w_+50", "w_5%2530", "w_%25%35%30", "w_50%", "w_5%3", "w_%2%350"],
)
def test_other_encoded_characters_stay_a_part_of_the_value(options: str) -> None:
    with pytest.raises(BadOption):
        DIALECT.parse(f"/img/{options}/cat.jpg")


@pytest.mark.parametrize("options", ["w%255F50", "w%2%35F50", "w%5", "w%5G50", "w%2D50", "w%C5%9F50"])
def test_what_does_not_decode_to_an_option_is_a_folder(options: str) -> None:
    try:
        ref = DIALECT.parse(f"/img/{options}/cat.jpg").ref
    except BadRequest:
        return
    assert ref == SourceRef("photos", f"{decode(options)}/cat.jpg")


@given(st.text(alphabet="%0123456789abcdefABCDEF5f_", max_size=12))
def test_normalizing_changes_nothing_that_decoding_gives(text: str) -> None:
    try:
        expected = decode(text)
    except Exception:
        return

    assert decode(normalized(text)) == expected
    assert normalized(normalized(text)) in (normalized(text), expected)


def test_a_source_keeps_its_bytes() -> None:
    assert DIALECT.parse("/img/w_50/my%5Ffolder/%77_1.jpg").ref == SourceRef("photos", "my_folder/w_1.jpg")
    assert DIALECT.parse("/img/w_50/_/w%5F50/cat.jpg").ref == SourceRef("photos", "w_50/cat.jpg")


def test_a_signature_covers_the_spelling_that_is_sent() -> None:
    plain, spelling = (f"{options}/cat.jpg" for options in ("w_50", "w%5F50"))
    signed = {rest: f"/img/s--{KEYRING.sign(rest, source='photos')}--/{rest}" for rest in (plain, spelling)}

    assert SIGNED.parse(signed[plain]).plan == SIGNED.parse(signed[spelling]).plan
    for rest, other in ((plain, spelling), (spelling, plain)):
        with pytest.raises(SignatureRefused):
            SIGNED.parse(signed[rest].replace(rest, other))


def test_quoted_names_need_no_other_escape() -> None:
    for folder in ("w_50", "w%5F50", "_"):
        ref = SourceRef("photos", f"{folder}/cat.jpg")
        assert DIALECT.parse(DIALECT.build(ref, "w_9")).ref == ref
        assert quote("_-.~") == "_-.~"
