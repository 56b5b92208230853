"""Properties of any text and of any set of options."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.dialects.native.options import OPTIONS
from imgserver.errors import ImgserverError
from imgserver.plan.canonical import key, plan_digest
from imgserver.plan.geometry import bind_plan
from imgserver.plan.plan import Dims, SourceRef
from imgserver.security.signing import Keyring, SigningKey

DIALECT = NativeDialect(NativeSettings(), {"photos", "shop"}, "photos")
KEYRING = Keyring((SigningKey(bytes(range(32))), SigningKey(bytes(range(16)), frozenset({"shop"}))))
PRESETS = {"card": "w_400,h_300,c_fill/q_70", "end": "a_ignore/w_9", "x": "fl_attachment"}
LIMITS = NativeSettings(snap_widths=(100, 400, 800), max_segments=4, max_steps=20)
ARMED = NativeDialect(LIMITS, {"photos", "shop"}, "photos", presets=PRESETS, keyring=KEYRING)
PRESETS_ONLY = NativeDialect(NativeSettings(presets_only=True), {"photos"}, "photos", presets=PRESETS, keyring=KEYRING)
SIGNED_ONLY = NativeDialect(NativeSettings(), {"photos"}, "photos", keyring=Keyring(KEYRING.keys, required=True))
EVERY = (DIALECT, ARMED, PRESETS_ONLY, SIGNED_ONLY)
ALPHABET = "wharcgxyzeobqfdplnt_,/:.-%0123456789sS?#\\ é²\x00\n"

VALID = [
    "/img/w_800,q_80/photo.jpg",
    "/img/c_fill,w_400,h_400,g_xy,x_0.7,y_0.3/a/b.jpg",
    "/img/c_thumb,g_auto,w_150,ar_16%3A9,z_0.8/r_1:2:3:4,bo_4:fff/f_auto,q_auto:eco/_/w_1/caf%C3%A9.jpg",
    "/img/a_ignore.90.hflip,b_fafafa,e_trim:12:fff,e_blur:4,o_50/dpr_1.5,fl_attachment:x.still,pg_3/p.tif?v=3",
    "/img/w_400/b64/cGhvdG8uanBn",
    "/img/t_card/q_60/photo.jpg",
    "/img/s--mVQWZncozB1VroorjC3Lcg--/w_800,q_80/photo.jpg",
    "/img/s--SYY5XNEtZ7yYz2xkDMis1A--/exp_1798761600/w_800,q_80/photo.jpg",
]


def parse_or_refuse(target: str) -> None:
    for dialect in EVERY:
        try:
            request = dialect.parse(target)
        except ImgserverError as error:
            assert error.detail
        else:
            assert request.signed == bool(re.match(r"/img/s--[^/?]*--/", target))
            assert request.signed or request.expires is None
            plan_digest(request.plan)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    parse_or_refuse(text)


@given(st.text(alphabet=ALPHABET, max_size=60))
def test_any_tail_is_parsed_or_refused(tail: str) -> None:
    parse_or_refuse("/img/" + tail)


@given(st.sampled_from(list(OPTIONS)), st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126)))
def test_any_value_is_parsed_or_refused(option: str, value: str) -> None:
    parse_or_refuse(f"/img/{option}_{value}/p.jpg")
    parse_or_refuse(f"/img/w_9,h_9,c_fill,{option}_{value}/p.jpg")


@given(st.text(alphabet=ALPHABET + "s-", max_size=60), st.sampled_from(KEYRING.keys))
def test_any_signed_tail_is_parsed_or_refused(tail: str, signer: SigningKey) -> None:
    mac = Keyring((signer,)).sign(tail.partition("?")[0], source="shop")
    parse_or_refuse(f"/img/s--{mac}--/{tail}")


@given(st.text(alphabet=ALPHABET + "s-", max_size=60), st.text(alphabet=ALPHABET, max_size=30))
def test_only_the_signature_of_a_text_is_accepted(tail: str, mac: str) -> None:
    try:
        request = ARMED.parse(f"/img/s--{mac}--/{tail}")
    except ImgserverError:
        return
    assert not request.signed or mac in [
        Keyring((one,)).sign(tail.partition("?")[0], source="shop") for one in KEYRING.keys
    ]


@given(st.sampled_from(VALID), st.data())
def test_a_mutated_url_is_parsed_or_refused(url: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(url)))
    end = data.draw(st.integers(start, min(len(url), start + 4)))
    parse_or_refuse(url[:start] + data.draw(st.text(alphabet=ALPHABET, max_size=4)) + url[end:])


# Options of one segment, each with values of different meaning.
CHOICES = {
    "w": ["400", "401", "0.5"],
    "h": ["300", "299", "0.25"],
    "c": ["fill", "pad", "scale", "crop", "lfill"],
    "a": ["90", "15", "hflip", "15.hflip"],
    "o": ["50", "51"],
    "r": ["5", "6", "5:6", "max"],
    "bo": ["4", "4:fff", "5"],
    "b": ["fff", "eee", "ffffff80"],
    "q": ["80", "81", "auto:low"],
    "f": ["webp", "jpg", "auto"],
    "dpr": ["2", "1.5"],
    "fl": ["still", "keep_metadata"],
    "e": ["blur:4", "grayscale", "hue:20"],
}
# Other texts of the same value.
OTHER_TEXTS = {
    ("b", "fff"): ["white", "ffffff", "FFF", "ffff", "ffffffff"],
    ("bo", "4"): ["4:black", "4:000", "4%3A000000"],
    ("bo", "4:fff"): ["4:white", "4%3Afff"],
    ("r", "5"): ["5:5", "5:5:5:5"],
    ("r", "5:6"): ["5:6:5", "5%3A6:5:6"],
    ("a", "hflip"): ["vflip.180", "180.vflip", "360.hflip"],
    ("a", "90"): ["-270", "hflip.vflip.-90"],
    ("a", "15"): ["-345"],
    ("a", "15.hflip"): ["15%2Ehflip", "-345.hflip"],
    ("f", "jpg"): ["jpeg"],
    ("w", "0.5"): ["0.50", "0.5000"],
    ("dpr", "2"): ["2.0"],
    ("dpr", "1.5"): ["1.5000"],
    ("e", "hue:20"): ["hue:20.0"],
}
WRITTEN_DEFAULTS = {"dpr": "1", "o": "100", "r": "0", "a": "0", "q": "auto"}
options = st.fixed_dictionaries({"w": st.sampled_from(CHOICES["w"]), "h": st.sampled_from(CHOICES["h"])}).flatmap(
    lambda sides: st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(values) for name, values in CHOICES.items() if name not in sides}
    ).map(lambda rest: sides | rest)
)


def url(options: dict[str, str], seed: int | None = None) -> str:
    """A URL with these options. With a seed they are shuffled, and written in another way, with their defaults."""
    if seed is None:
        return "/img/" + ",".join(f"{name}_{value}" for name, value in options.items()) + "/a%20b.jpg"
    made = random.Random(seed)
    full = options | {
        name: value for name, value in WRITTEN_DEFAULTS.items() if name not in options and made.random() < 0.5
    }
    parts = [f"{name}_{_rewritten(name, value, made)}" for name, value in full.items()]
    made.shuffle(parts)
    return "/img/" + ",".join(parts) + made.choice(["/a%20b.jpg", "/photos/a%20b.jpg", "/_/%61%20b.jpg?v=3"])


def _rewritten(name: str, value: str, made: random.Random) -> str:
    escaped = "".join(f"%{ord(letter):02x}" for letter in value)
    return made.choice([value, escaped, *OTHER_TEXTS.get((name, value), [])])


@settings(max_examples=300)
@given(options, st.integers(0, 10**6))
def test_equal_options_give_an_equal_key(options: dict[str, str], seed: int) -> None:
    one, other = DIALECT.parse(url(options)), DIALECT.parse(url(options, seed))

    assert key(one.ref, one.plan) == key(other.ref, other.plan)


@settings(max_examples=200)
@given(options, st.integers(0, 10**6))
def test_equal_options_give_an_equal_key_when_signed_and_when_snapped(options: dict[str, str], seed: int) -> None:
    def signed(target: str) -> str:
        rest = target.replace("/img/", "exp_1798761600/")
        return f"/img/s--{KEYRING.sign(rest.partition('?')[0], source='photos')}--/{rest}"

    for dialect in (DIALECT, ARMED):
        one = dialect.parse(url(options))
        assert key(one.ref, one.plan) == key(one.ref, dialect.parse(url(options, seed)).plan)
    assert plan_digest(ARMED.parse(signed(url(options, seed))).plan) == plan_digest(ARMED.parse(url(options)).plan)


@given(options)
def test_a_preset_and_its_text_give_an_equal_key(options: dict[str, str]) -> None:
    text = url(options).removeprefix("/img/").removesuffix("/a%20b.jpg")
    named = NativeDialect(LIMITS, {"photos"}, "photos", presets={"one": text}).parse("/img/t_one/a%20b.jpg")

    assert plan_digest(named.plan) == plan_digest(ARMED.parse(url(options)).plan)


@pytest.mark.parametrize(("name", "value"), OTHER_TEXTS)
def test_every_text_of_a_value_has_its_meaning(name: str, value: str) -> None:
    box = {"w": "400", "h": "300"}
    expected = plan_digest(DIALECT.parse(url(box | {name: value})).plan)

    for text in OTHER_TEXTS[name, value]:
        assert plan_digest(DIALECT.parse(url(box | {name: text})).plan) == expected


@settings(max_examples=300)
@given(options, st.data())
def test_different_options_give_different_keys(options: dict[str, str], data: st.DataObject) -> None:
    # Two modes may give the same image for a fraction; dpr does not change fractions; a jpg is always still.
    alike = {"c", "dpr"} | ({"fl"} if options.get("f") == "jpg" else set())
    name = data.draw(st.sampled_from([name for name in options if name not in alike]))
    changed = options | {name: data.draw(st.sampled_from([value for value in CHOICES[name] if value != options[name]]))}

    assert plan_digest(DIALECT.parse(url(options)).plan) != plan_digest(DIALECT.parse(url(changed)).plan)


@settings(max_examples=200)
@given(options, st.integers(1, 3000), st.integers(1, 3000))
def test_equal_keys_mean_equal_sizes(options: dict[str, str], width: int, height: int) -> None:
    one, other = DIALECT.parse(url(options)).plan, DIALECT.parse(url(options, 1)).plan

    assert bind_plan(one, Dims(width, height)).after == bind_plan(other, Dims(width, height)).after


names = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))
paths = st.lists(
    names | st.sampled_from(["w_archive", "_", "shop", "photos", "b64", "s--x--", "https:", "wd_8", "fl_studio"]),
    min_size=1,
    max_size=4,
).map("/".join)


@settings(max_examples=300)
@given(paths, st.sampled_from(["photos", "shop"]), st.sampled_from(["", "w_800,q_80", "w_800/e_blur:4"]))
def test_a_built_url_is_parsed_to_its_source(path: str, source: str, options: str) -> None:
    ref = SourceRef(source, path)

    assert DIALECT.parse(DIALECT.build(ref, options)).ref == ref


@given(paths)
def test_a_built_url_escapes_any_path(path: str) -> None:
    target = DIALECT.build(SourceRef("photos", path), "w_9")

    assert target.isascii()
    assert not set("?# \\") & set(target)


def test_twenty_thousand_urls_share_a_key_only_if_their_options_are_equal() -> None:
    """Each set of options is written in two ways, and all sets are compared by their keys."""
    made = random.Random(1)
    options_of: dict[str, dict[str, str]] = {}
    for seed in range(10_000):
        options = _drawn(made)
        one, other = (DIALECT.parse(target) for target in (url(options), url(options, seed)))
        digest = key(one.ref, one.plan)

        assert key(other.ref, other.plan) == digest
        assert _distinct(options_of.setdefault(digest, options)) == _distinct(options)
    assert len(options_of) > 5_000


def _drawn(made: random.Random) -> dict[str, str]:
    return {name: made.choice(values) for name, values in CHOICES.items() if name in "wh" or made.random() < 0.5}


def _distinct(options: dict[str, str]) -> dict[str, str]:
    """The options without those that may give the same image with another value; see the test of different options."""
    alike = {"c", "dpr"} | ({"fl"} if options.get("f") == "jpg" else set())
    return {name: value for name, value in options.items() if name not in alike}
