"""Signed URLs: the check before parsing, and the options that need a signature."""

import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import BadOption, BadSourcePath, ImgserverError, NotInThisBuild, SignatureRefused
from imgserver.plan.canonical import key, plan_digest
from imgserver.plan.plan import SourceRef
from imgserver.security.remote_url import REMOTE
from imgserver.security.signing import Keyring, SigningKey, SigningSettings

KEY, SHOP_KEY = bytes(range(32)), bytes(range(100, 132))
SIGNED = "/img/s--mVQWZncozB1VroorjC3Lcg--/w_800,q_80/photo.jpg"
EXPIRING = "/img/s--SYY5XNEtZ7yYz2xkDMis1A--/exp_1798761600/w_800,q_80/photo.jpg"


def dialect_of(*keys: SigningKey, required: bool = False) -> NativeDialect:
    keyring = Keyring(keys, required=required)
    return NativeDialect(NativeSettings(), {"photos", "shop"}, "photos", keyring=keyring)


DIALECT = dialect_of(SigningKey(KEY))


def signed(rest: str, secret: bytes = KEY) -> str:
    return f"/img/s--{Keyring((SigningKey(secret),)).sign(rest, source='photos')}--/{rest}"


def reason(dialect: NativeDialect, target: str) -> str:
    with pytest.raises(SignatureRefused) as caught:
        dialect.parse(target)
    return caught.value.facts["reason"]


def test_the_published_examples_are_parsed() -> None:
    plain, ending = DIALECT.parse(SIGNED), DIALECT.parse(EXPIRING)

    assert (plain.ref.path, plain.signed, plain.expires) == ("photo.jpg", True, None)
    assert (ending.ref.path, ending.signed, ending.expires) == ("photo.jpg", True, 1_798_761_600)


def test_signature_and_expiry_are_not_a_part_of_the_key() -> None:
    unsigned = DIALECT.parse("/img/w_800,q_80/photo.jpg")

    assert not unsigned.signed
    assert {key(one.ref, one.plan) for one in (unsigned, DIALECT.parse(SIGNED), DIALECT.parse(EXPIRING))} == {
        key(unsigned.ref, unsigned.plan)
    }


@pytest.mark.parametrize("target", [SIGNED, EXPIRING])
def test_any_changed_character_is_refused_or_leaves_no_signed_url(target: str) -> None:
    for at in range(len("/img/s--"), len(target)):
        for other in "aA0-_/,~":
            if other == target[at]:
                continue
            changed = target[:at] + other + target[at + 1 :]
            try:
                request = DIALECT.parse(changed)
            except SignatureRefused:
                continue
            except ImgserverError:
                # A changed hyphen makes `s--...` a folder, and a `/` splits it: there is no signature to check.
                assert at < target.index("--/") + 3
                continue
            assert not request.signed and request.ref.path.startswith("s--")


@pytest.mark.parametrize(
    "rest",
    ["w_800,q_80/%70hoto.jpg", "w_800%2Cq_80/photo.jpg", "q_80,w_800/photo.jpg", "w_800,q_80//photo.jpg",
     "w_800,q_80/_/photo.jpg", "w_800,q_80/photos/photo.jpg"],
)  # fmt: skip
def test_another_text_of_the_same_options_needs_another_signature(rest: str) -> None:
    assert reason(DIALECT, SIGNED.rpartition("--/")[0] + "--/" + rest) == "wrong"


def test_anybody_may_add_a_query_that_the_signature_does_not_cover() -> None:
    request = DIALECT.parse(SIGNED + "?v=3")

    assert (request.signed, request.query_signed) == (True, False)


def test_a_signature_can_cover_the_query_and_then_allows_no_other() -> None:
    target = DIALECT.build_signed(SourceRef("photos", "photo.jpg"), "w_800", query="?v=3")

    assert DIALECT.parse(target).query_signed
    for other in (target.removesuffix("?v=3"), target + "&v=4", target.replace("v=3", "v=4")):
        assert reason(DIALECT, other) == "wrong"


def test_an_unsigned_query_is_never_a_signed_one() -> None:
    assert not DIALECT.parse("/img/w_800/photo.jpg?v=3").query_signed


def test_a_wrong_signature_is_reported_before_any_other_error() -> None:
    assert reason(DIALECT, "/img/s--x--/w_80O/../a.jpg") == "wrong"
    assert reason(DIALECT, "/img/s----/" + "w_1/" * 500 + "a.jpg") == "wrong"
    assert reason(dialect_of(SigningKey(KEY), required=True), "/img/w_80O/../a.jpg") == "missing"


def test_a_valid_signature_does_not_allow_wrong_options() -> None:
    for rest, error in (("w_80O/a.jpg", BadOption), ("../a.jpg", BadSourcePath), ("l_x,w_9/a.jpg", NotInThisBuild)):
        with pytest.raises(error):
            DIALECT.parse(signed(rest))


def test_signed_urls_are_accepted_if_signatures_are_required() -> None:
    assert dialect_of(SigningKey(KEY), required=True).parse(SIGNED) == DIALECT.parse(SIGNED)


def test_a_key_is_valid_for_its_sources_only() -> None:
    dialect = dialect_of(SigningKey(KEY), SigningKey(SHOP_KEY, frozenset({"shop"})))

    assert dialect.parse(signed("w_8/shop/a.jpg", SHOP_KEY)).signed
    assert dialect.parse(signed("w_8/shop/a.jpg")).signed
    assert reason(dialect, signed("w_8/a.jpg", SHOP_KEY)) == "source"
    assert reason(dialect, signed("w_8/photos/shop/a.jpg", SHOP_KEY)) == "source"


@pytest.mark.parametrize("rest", ["exp_1798761600/p.jpg", "w_9,exp_1/p.jpg", "w_9/exp_1/p.jpg"])
def test_an_expiry_needs_a_signature_and_may_be_in_any_segment(rest: str) -> None:
    with pytest.raises(BadOption, match="exp: only in signed URLs"):
        DIALECT.parse("/img/" + rest)
    assert DIALECT.parse(signed(rest)).expires in (1, 1_798_761_600)


def test_the_last_of_two_expiries_counts() -> None:
    assert DIALECT.parse(signed("exp_5/w_9/exp_7/p.jpg")).expires == 7


@pytest.mark.parametrize("path", ["photo.jpg", "w_archive/a.jpg", "s--x--/a.jpg", "ä b.jpg"])
def test_a_built_url_is_signed_as_it_is_written(path: str) -> None:
    ref = SourceRef("photos", path)
    target = DIALECT.build_signed(ref, "exp_1798761600/w_8")

    assert (DIALECT.parse(target).ref, DIALECT.parse(target).signed) == (ref, True)
    assert plan_digest(DIALECT.parse(target).plan) == plan_digest(DIALECT.parse(DIALECT.build(ref, "w_8")).plan)


def test_built_urls_are_signed_if_signatures_are_required() -> None:
    assert dialect_of(SigningKey(KEY), required=True).build(SourceRef("photos", "photo.jpg"), "w_800,q_80") == SIGNED


def test_no_signature_is_valid_if_signing_is_off() -> None:
    keyring = SigningSettings("off", keys=(KEY.hex(),)).keyring()

    assert reason(NativeDialect(NativeSettings(), {"photos"}, "photos", keyring=keyring), SIGNED) == "no_key"


def test_a_request_for_another_host_says_whether_it_is_signed() -> None:
    keyring = Keyring((SigningKey(KEY), SigningKey(SHOP_KEY, frozenset({"shop"}))))
    dialect = NativeDialect(NativeSettings(), {"photos", "shop"}, "photos", remote=True, keyring=keyring)
    target = dialect.build_signed(SourceRef(REMOTE, "https://example.com/a.jpg"), "w_8")

    assert dialect.parse(target).signed
    assert not dialect.parse("/img/w_8/https://example.com/a.jpg").signed
    assert reason(dialect, signed("w_8/https://example.com/a.jpg", SHOP_KEY)) == "source"
