import pytest

from imgserver.engine.job import Limits, Quality
from imgserver.plan.plan import Fit, Output, Plan, Px, Terminal
from imgserver.plan.sniffing import HEAD_BYTES
from imgserver.rendering.cost import estimate_workload
from tests import decompression_bombs
from tests.running_server import SAMPLES


def estimate(data: bytes, plan: Plan):
    return estimate_workload(data[:HEAD_BYTES], len(data), plan, quality=Quality(), limits=Limits())


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
