"""How many renditions of one original unsigned URLs can cause: the numbers in docs/security.md, counted.

The URLs are parsed and negotiated as for requests, and the different cache keys are counted.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import pytest
from multidict import CIMultiDict

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.engine.job import Quality
from imgserver.errors import BadOption
from imgserver.headers import negotiation
from imgserver.headers.negotiation import NO_HINTS, RATIOS, Hints, offers, read_hints
from imgserver.rendering.degradation import DegradationLevel
from imgserver.rendering.variants import PipelineVersion
from imgserver.security.signing import Keyring, SigningKey

VERSION = PipelineVersion.of(Quality())
KEYRING = Keyring((SigningKey(bytes(32)),))
ACCEPTS = (
    None,
    "*/*",
    "image/*",
    "image/webp",
    "image/webp;q=0",
    "image/avif,image/webp,*/*;q=0.8",
    "image/avif;q=0.1, image/webp;q=0.9",
    "image/avif",
    "image/jxl,image/png",
)
HEADERS = [
    CIMultiDict({"Sec-CH-Width": width, "Sec-CH-DPR": ratio, "Save-Data": saving})
    for width, ratio, saving in product(
        ("", "0", "1", "159", "160", "161", "777", "1281", "3840", "99999"),
        ("", "0.1", "1", "1.2", "1.5", "2.6", "9", "x"),
        ("", "on"),
    )
]
SECURITY = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def dialect_of(presets: dict[str, str] | None = None, **settings: object) -> NativeDialect:
    return NativeDialect(
        NativeSettings(**settings),  # type: ignore[arg-type]
        {"photos", "shop"},
        "photos",
        presets=presets,
        keyring=KEYRING,
        client_hints=True,
    )


def keys_of(dialect: NativeDialect, tails: Iterable[str], *, hinted: bool = True, degraded: bool = False) -> set[str]:
    return {key for tail in tails for key in _keys(dialect, f"/img/{tail}", hinted=hinted, degraded=degraded)}


def _keys(dialect: NativeDialect, target: str, *, hinted: bool, degraded: bool) -> Iterator[str]:
    """The keys of a target for every client; none if the target is refused."""
    try:
        used = dialect.parse(target).hints
    except BadOption:
        return
    for headers, accept in product(HEADERS if hinted and used else [{}], ACCEPTS):
        hints = read_hints(headers, used) if used else NO_HINTS
        offered = offers(accept)
        request = VERSION.render_request(dialect.parse(target, hints), offered, save_data=hints.save_data)
        levels = DegradationLevel if degraded else (DegradationLevel.NONE,)
        yield from (VERSION.degraded_request(request, level).key for level in levels)


def chains(segments: Iterable[str], longest: int = 3) -> Iterator[str]:
    for length in range(longest + 1):
        yield from ("/".join((*chain, "p.jpg")) for chain in product(tuple(segments), repeat=length))


PRESETS = {
    "card": "c_fill,w_400,h_300,g_auto/f_auto",
    "wide": "w_1600/e_sharpen,f_auto",
    "small": "w_200,f_webp",
    "same": "w_200,f_webp",
    "clear": "w_100,f_avif",
    "page": "pg_2,w_300",
}
FORMATS = {"card": 3, "wide": 3, "small": 1, "same": 0, "clear": 1, "page": 1}


def test_with_presets_only_an_original_has_one_result_for_each_preset_and_format() -> None:
    dialect = dialect_of(PRESETS, presets_only=True)
    options = ["t_" + name for name in PRESETS] + ["w_9", "q_5", "pg_3", "dpr_2", "f_png", "exp_9", "t_none"]
    tails = list(chains(options))
    spelled = [tail.replace("t_", "t_%6") if "t_c" not in tail else tail.replace("t_c", "t_%63") for tail in tails]
    queries = [tail + "?v=1&w=300&pg=2" for tail in tails]
    aliases = [
        tail.replace("p.jpg", path) for tail in tails for path in ("photos/p.jpg", "%70.jpg", "_/p.jpg", "b64/cC5qcGc")
    ]

    assert len(keys_of(dialect, [*tails, *spelled, *queries, *aliases])) == 1 + sum(FORMATS.values())


def test_chains_of_presets_are_refused_without_a_signature() -> None:
    dialect = dialect_of(PRESETS, presets_only=True)

    with pytest.raises(BadOption, match="may name one preset here") as caught:
        dialect.parse("/img/t_card/t_small/p.jpg")

    assert (caught.value.facts["argument"], caught.value.facts["value"], caught.value.facts["at"]) == (
        "t",
        "t_small",
        12,
    )


def test_a_signed_url_may_name_several_presets() -> None:
    dialect = dialect_of(PRESETS, presets_only=True, snap_widths=(100, 400))
    target = dialect.build_signed(dialect.resolve("p.jpg"), "t_card/t_small")

    assert len(dialect.parse(target).plan.steps) == 3


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("w_auto", 11),
        ("w_400,dpr_auto", 4),
        ("w_400,f_webp,q_auto", 2),
        ("w_400,f_auto,q_auto", 6),
        ("w_auto,f_auto,q_auto", 66),
    ],
)
def test_client_hints_multiply_a_preset_by_the_documented_numbers(text: str, most: int) -> None:
    dialect = dialect_of({"one": text}, presets_only=True)

    keys = keys_of(dialect, ["t_one/p.jpg"])

    assert 1 < len(keys) <= most
    assert len(negotiation.WIDTHS) == 11
    assert len(RATIOS) == 4


@pytest.mark.parametrize(
    ("text", "most"), [("c_fill,w_9,h_9,g_auto,f_auto", 5), ("w_9,f_auto", 4), ("w_9,f_avif", 2), ("w_9,f_jpg", 1)]
)
def test_degraded_results_are_no_more_than_documented(text: str, most: int) -> None:
    assert len(keys_of(dialect_of({"one": text}, presets_only=True), ["t_one/p.jpg"], degraded=True)) == most


WIDTHS = (100, 400, 800)


def test_snapped_sizes_have_the_documented_number_of_results() -> None:
    dialect = dialect_of(snap_widths=WIDTHS)
    widths = [f"w_{width}" for width in (1, 50, 99, 100, 101, 333, 400, 401, 799, 800, 801, 5000)]
    tails = [
        f"{size},f_jpg{ratio}{query}"
        for size in widths
        for ratio in ("/p.jpg", ",dpr_0.5/p.jpg", ",dpr_1.1/p.jpg", "/dpr_4/p.jpg")
        for query in ("", "?w=9")
    ]

    assert len(keys_of(dialect, tails)) == len(WIDTHS)


def test_snapped_boxes_have_at_most_the_documented_number_of_shapes() -> None:
    dialect = dialect_of(snap_widths=WIDTHS)
    sides = [*range(1, 100, 7), *range(100, 900, 67), 8192]
    tails = [f"c_fill,w_{width},h_{height},f_jpg/p.jpg" for width, height in product(sides, sides)]

    assert len(keys_of(dialect, tails, hinted=False)) <= len(WIDTHS) * 95


def test_a_chain_of_sizes_has_no_more_results_than_one_size() -> None:
    dialect = dialect_of(snap_widths=WIDTHS)
    sizes = ["w_90", "w_300", "c_fit,w_700", "h_90", "ar_1:1"]

    keys = keys_of(dialect, (f"f_jpg/{tail}" for tail in chains(sizes)))

    assert keys == keys_of(dialect, (f"f_jpg/{tail}" for tail in chains(sizes, longest=1)))


def test_hinted_widths_are_snapped_too() -> None:
    dialect = dialect_of(snap_widths=WIDTHS)

    assert len(keys_of(dialect, ["w_auto,f_jpg/p.jpg"])) == len(WIDTHS) - 1
    assert dialect.parse("/img/w_auto/p.jpg", Hints(width=160)).plan == dialect.parse("/img/w_400/p.jpg").plan


@pytest.mark.parametrize(
    "tail", ["c_crop,w_600,h_600,g_auto/w_200/p.jpg", "w_200/e_blur:4/p.jpg", "t_card/w_200/p.jpg"]
)
def test_one_size_beside_other_options_is_allowed(tail: str) -> None:
    assert dialect_of(PRESETS, snap_widths=WIDTHS).parse("/img/" + tail)


def test_a_signed_url_may_scale_more_than_once() -> None:
    dialect = dialect_of(snap_widths=WIDTHS)
    target = dialect.build_signed(dialect.resolve("p.jpg"), "w_100/c_fit,w_800")

    assert len(dialect.parse(target).plan.steps) == 3


def test_the_documented_numbers_are_these() -> None:
    text = re.sub(r"\s+", " ", SECURITY)

    for sentence in (
        "one preset or no option",
        "3 for `f_auto`",
        "11 for `w_auto`, 4 for `dpr_auto` and 2 for `q_auto`",
        "at most 5",
        "R × 95 boxes",
    ):
        assert sentence in text
