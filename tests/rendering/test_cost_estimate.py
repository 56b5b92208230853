import pytest

from imgserver.engine.frame_count import count_frames
from imgserver.engine.job import Limits, Quality
from imgserver.plan.plan import Fit, Output, Plan, Px, Terminal
from imgserver.plan.sniffing import HEAD_BYTES
from imgserver.rendering.cost import estimate_workload, may_animate
from tests import decompression_bombs
from tests.running_server import CASES, SAMPLES


def estimate(data: bytes, plan: Plan, frames: int = 1):
    return estimate_workload(data[:HEAD_BYTES], len(data), plan, quality=Quality(), limits=Limits(), frames=frames)


def photo(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def test_a_workload_has_the_sizes_and_formats_of_original_and_output():
    work = estimate(photo("dogs.jpg"), Plan((Fit(Px(800)),), Output("webp")))

    assert (work.source_format, work.source_width, work.source_height) == ("jpg", 2056, 3088)
    assert (work.output_format, work.output_width, work.output_height) == ("webp", 800, 1202)


def test_a_workload_has_the_avif_effort():
    small = estimate(photo("dogs.jpg"), Plan((Fit(Px(800)),), Output("avif")))
    large = estimate(photo("sunset.jpg"), Plan((), Output("avif")))

    assert (small.effort, large.effort) == (Quality().avif_effort, 0)


@pytest.mark.parametrize(
    "bomb", [data for _, data, limit in decompression_bombs.refused() if "source" in limit and data[:3] != b"GIF"]
)
def test_a_decompression_bomb_is_estimated_to_cost_nothing(bomb):
    work = estimate(bomb, Plan())

    assert work.source_width * work.source_height == 1


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", photo("cat.png")[:30]])
def test_unknown_sizes_are_guessed(data):
    assert estimate(data, Plan(terminal=Terminal("info"))).source_width >= 1


PAN = (CASES / "f1_pan90.gif").read_bytes()


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(output=Output("gif")), True),
        (Plan(output=Output("webp")), True),
        (Plan(output=Output("jpg")), False),
        (Plan(output=Output("gif", frames="first")), False),
        (Plan(output=Output("gif", frames=3)), False),
        (Plan(output=Output("gif"), terminal=Terminal("info")), False),
    ],
)
def test_frames_count_only_where_the_result_is_an_animation(plan, expected):
    assert may_animate(PAN[:HEAD_BYTES], plan) is expected


def test_a_workload_has_the_real_number_of_frames():
    work = estimate(PAN, Plan((Fit(Px(100)),), Output("gif")), frames=count_frames(str(CASES / "f1_pan90.gif")))

    assert work.frames == 90


def test_an_animation_of_too_many_pixels_is_estimated_to_cost_nothing():
    work = estimate((CASES / "f1_two_2400x1800.gif").read_bytes(), Plan(output=Output("gif")), frames=190)

    assert work.source_width * work.source_height * work.frames == 1


def test_an_output_over_the_limits_is_estimated_to_cost_nothing():
    work = estimate((CASES / "f1_3x5.png").read_bytes(), Plan((Fit(Px(8192), enlarge="allow"),), Output("png")))

    assert work.output_width * work.output_height == 1
