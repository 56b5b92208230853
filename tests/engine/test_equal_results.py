"""Plans that are compared as equal give the same file, byte for byte."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from imgserver.engine.job import Job
from imgserver.engine.render import render
from imgserver.errors import ImgserverError
from imgserver.plan.plan import Dims
from imgserver.plan.resolution import result_digest
from tests.engine.conftest import Renderer, saved
from tests.plan.test_resolution import CHAINS, plan_of


def original(orientation: int, name: str) -> bytes:
    image = Image.radial_gradient("L").resize((40, 30)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, name, exif=exif)


NAMES = {"JPEG": "jpg", "PNG": "png"}
ORIGINALS = {(name, orientation): original(orientation, name) for name in NAMES for orientation in (1, 6)}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHAINS, CHAINS, st.sampled_from(sorted(ORIGINALS)))
def test_an_equal_digest_means_an_equal_file(
    draw: Renderer, one: list[str], other: list[str], kind: tuple[str, int]
) -> None:
    path = draw.folder / "original"
    path.write_bytes(ORIGINALS[kind])
    try:
        plans = [plan_of("/".join(chain)) for chain in (one, other)]
    except ImgserverError:
        return
    first, second = (result_digest(plan, NAMES[kind[0]], Dims(40, 30, kind[1])) for plan in plans)
    assume(first == second and first is not None)

    bodies = [render(Job(str(path), plan)).body for plan in plans]

    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("kind", sorted(ORIGINALS))
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("", "w_500"),
        ("", "a_ignore"),
        ("w_20", "c_scale,w_20,h_15"),
        ("w_20", "w_10,dpr_2"),
        ("c_fill,w_20,h_20", "c_lfill,w_20,ar_1:1,g_center"),
        ("c_crop,w_90,h_90/w_20", "w_20"),
        ("w_20/w_500", "w_20"),
        ("q_50,f_source", "f_source"),
        ("", "f_jpg"),
        ("", "f_png"),
        ("r_5", "f_jpg,r_5"),
        ("c_pad,w_60,h_60", "c_pad,w_60,h_60,f_jpg"),
        ("e_blur:2/w_500", "e_blur:2"),
    ],
)
def test_the_digest_of_a_pair_is_as_equal_as_its_files(
    draw: Renderer, one: str, other: str, kind: tuple[str, int]
) -> None:
    """Equal digests demand equal files; these pairs are so near to each other that a mistake would show."""
    path = draw.folder / "original"
    path.write_bytes(ORIGINALS[kind])
    plans = [plan_of(one), plan_of(other)]
    equal = len({result_digest(plan, NAMES[kind[0]], Dims(40, 30, kind[1])) for plan in plans}) == 1

    assert not equal or len({render(Job(str(path), plan)).body for plan in plans}) == 1
