"""Plans with the same result have one digest, and plans with different results never share one."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import ImgserverError
from imgserver.plan.geometry import bind_plan
from imgserver.plan.plan import Dims, Plan
from imgserver.plan.resolution import result_digest

DIALECT = NativeDialect(NativeSettings(), {"photos"}, "photos")
PHOTO = Dims(1200, 800)


def plan_of(options: str) -> Plan:
    return DIALECT.parse(f"/img/{options}{'/' if options else ''}p.jpg").plan


def digest_of(options: str, source_format: str = "jpg", dims: Dims = PHOTO) -> str | None:
    return result_digest(plan_of(options), source_format, dims)


EQUAL = [
    [
        "",
        "w_1200",
        "w_2000",
        "w_8192,h_8192",
        "h_900",
        "c_limit,w_1201",
        "w_1.0",
        "c_lfill,w_1200,h_800",
        "dpr_2,w_800",
    ],
    [
        "w_600",
        "h_400",
        "w_0.5",
        "c_fit,w_600",
        "c_scale,w_600,h_400",
        "w_600,h_8000",
        "w_300,dpr_2",
        "c_fill,w_600,h_400",
    ],
    ["c_fill,w_400,h_400", "c_fill,w_400,h_400,g_center", "c_lfill,w_400,ar_1:1", "c_fill,w_200,h_200,dpr_2"],
    ["c_crop,w_400,h_300,g_center", "c_crop,w_400,h_300,x_0,y_0,g_center"],
    ["c_crop,w_9000,h_9000", "c_crop,w_1200,h_800,g_south", ""],
    ["c_pad,w_1200,h_1200,b_red", "c_lpad,w_1200,h_1200,b_ff0000"],
    ["w_5000/e_blur:3", "e_blur:3", "w_1.0,e_blur:3/w_4000"],
    ["a_90/w_4000", "a_90"],
]


@pytest.mark.parametrize("spellings", EQUAL, ids=lambda spellings: spellings[1])
def test_spellings_of_one_result_have_one_digest(spellings: list[str]) -> None:
    assert len({digest_of(options) for options in spellings}) == 1


DIFFERENT = ["", "w_600", "w_601", "c_fill,w_400,h_400", "c_fill,w_400,h_400,g_auto", "c_fill,w_400,h_400,g_north_west"]
DIFFERENT += ["c_pad,w_1200,h_1200,b_red", "c_pad,w_1200,h_1200,b_blue", "c_pad,w_1200,h_1200,b_red,g_north", "q_50"]
DIFFERENT += ["w_600/w_300", "w_300", "w_5000/w_300", "a_90", "f_webp", "f_webp,q_50", "w_600/e_trim", "e_trim/w_600"]
DIFFERENT += ["c_crop,w_400,h_300", "c_crop,w_400,h_300,x_1", "bo_4:red", "r_9", "f_png", "fl_keep_metadata"]


def test_different_results_have_different_digests() -> None:
    """`w_5000/w_300` differs from `w_300` by the size at which the original is decoded."""
    assert len({digest_of(options) for options in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize("source", ["png", "gif", "bmp", "ico"])
def test_a_quality_has_no_effect_on_an_original_without_one(source: str) -> None:
    assert digest_of("q_50", source) == digest_of("q_90", source) == digest_of("", source)
    assert digest_of("q_50,f_webp", source) != digest_of("q_90,f_webp", source)


@pytest.mark.parametrize("source", ["jpg", "png", "gif", "webp", "avif"])
def test_the_name_of_the_original_s_format_is_its_default(source: str) -> None:
    assert digest_of(f"f_{source}", source) == digest_of("f_source", source) == digest_of("", source)
    assert digest_of(f"f_{source},w_600,r_9", source) == digest_of("w_600,r_9", source)
    # What a TIFF becomes depends on its alpha.
    assert len({digest_of(options, "tiff") for options in ("", "f_jpg", "f_png", "f_tiff")}) == 4


def test_an_orientation_counts_only_if_there_is_one() -> None:
    assert digest_of("a_ignore") == digest_of("")
    assert digest_of("a_ignore", dims=Dims(1200, 800, 6)) != digest_of("", dims=Dims(1200, 800, 6))
    # Turned, the image is 800 × 1200.
    assert digest_of("w_900", dims=Dims(1200, 800, 6)) == digest_of("", dims=Dims(1200, 800, 6))
    assert digest_of("w_900") != digest_of("")


def test_results_other_than_images_are_not_compared() -> None:
    assert digest_of("f_info") is None
    assert digest_of("w_3000,f_blurhash") is None


def test_a_refused_plan_has_no_digest() -> None:
    assert digest_of("c_crop,w_10,h_10,x_5000") is None


SIDES = st.integers(1, 60)
OPTIONS = st.builds(
    lambda mode, width, height, gravity: f"c_{mode},w_{width},h_{height}" + (f",g_{gravity}" if gravity else ""),
    st.sampled_from(["limit", "fit", "mfit", "scale", "fill", "lfill", "rfill", "pad", "lpad", "mpad", "crop"]),
    SIDES,
    SIDES,
    st.sampled_from(["", "center", "north", "south_east"]),
)
CHAINS = st.lists(st.one_of(OPTIONS, st.sampled_from(["a_90", "a_ignore", "w_9000", "w_1.0"])), max_size=3)


@settings(max_examples=400, deadline=None)
@given(CHAINS, CHAINS, SIDES, SIDES, st.sampled_from([1, 3, 6]))
def test_an_equal_digest_means_equal_sizes(one: list[str], other: list[str], w: int, h: int, orientation: int) -> None:
    dims = Dims(w, h, orientation)
    found: list[Any] = []
    for chain in (one, other):
        try:
            plan = plan_of("/".join(chain))
        except ImgserverError:
            return
        digest = result_digest(plan, "jpg", dims)
        if digest is None:
            return
        found.append((digest, bind_plan(plan, dims).after))

    (first, size), (second, other_size) = found
    if first == second:
        assert size == other_size
