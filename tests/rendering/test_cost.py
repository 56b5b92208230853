import pytest

from imgserver.rendering.cost import Cost, CostModel, ServiceRate, Workload

BITS = {"source_width": 3000, "source_height": 2000, "output_width": 800, "output_height": 533}


def work(source: str = "jpg", output: str = "jpg", **more) -> Workload:
    return Workload(source_format=source, output_format=output, **{**BITS, **more})


def test_a_slow_avif_costs_many_times_a_jpeg():
    model = CostModel()

    assert model.estimate(work(output="avif", effort=4)).seconds > 10 * model.estimate(work()).seconds


def test_observations_correct_the_estimate_of_their_kind_only():
    model = CostModel()
    before, other = model.estimate(work()).seconds, model.estimate(work("png")).seconds
    for _ in range(100):
        model.observe(work(), cpu_seconds=before * 3)

    assert model.estimate(work()).seconds == pytest.approx(before * 3, rel=0.01)
    assert model.estimate(work("png")).seconds == other


def test_one_absurd_observation_does_not_ruin_the_model():
    model = CostModel()
    before = model.estimate(work()).seconds
    model.observe(work(), cpu_seconds=1e6)

    assert model.estimate(work()).seconds < before * 4


def test_one_odd_picture_in_three_does_not_spoil_the_estimate():
    model = CostModel()
    before = model.estimate(work()).seconds
    for ratio in (1.0, 20.0, 1.1) * 5:
        model.observe(work(), cpu_seconds=before * ratio)

    assert model.estimate(work()).seconds < before * 1.2


def test_animations_and_still_pictures_do_not_share_a_correction():
    model = CostModel()
    before = model.estimate(work("gif", "gif")).seconds
    for _ in range(20):
        model.observe(work("gif", "gif", frames=90), cpu_seconds=1e6)

    assert model.estimate(work("gif", "gif")).seconds == before


def test_a_correction_is_forgotten_after_fifteen_other_renders():
    model = CostModel()
    before = model.estimate(work()).seconds
    for ratio in (5.0,) * 15 + (2.0,) * 15:
        model.observe(work(), cpu_seconds=before * ratio)

    assert model.estimate(work()).seconds == pytest.approx(before * 2.0)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (work(), 3000 * 300 * 4),
        (work(source_height=100), 3000 * 100 * 4),
        (work(whole=True), 3000 * 2000 * 4),
        (work("webp"), 3000 * 2000 * 4),
        (work("gif", frames=10), 3000 * 2000 * 4 * 10),
    ],
)
def test_decoded_bytes_are_a_band_of_rows_or_the_whole_frame(seen, expected):
    assert CostModel().estimate(seen).decoded_bytes == expected


def test_the_first_slow_renders_hardly_change_the_service_rate():
    rate = ServiceRate()
    for _ in range(4):
        rate.learn(held_seconds=0.25, cost=Cost(0.08))

    assert rate.seconds(1.0) < 1.4


def test_the_service_rate_weighs_renders_by_their_length():
    rate = ServiceRate()
    for _ in range(30):
        rate.learn(held_seconds=0.01, cost=Cost(0.001))
        rate.learn(held_seconds=1.0, cost=Cost(1.0))

    assert rate.seconds(1.0) == pytest.approx(1.0, rel=0.02)


def test_the_service_rate_follows_measured_renders():
    rate = ServiceRate()
    for _ in range(100):
        rate.learn(held_seconds=0.4, cost=Cost(0.2))

    assert rate.seconds(0.2) == pytest.approx(0.4, rel=0.01)
    assert rate.typical_seconds() == pytest.approx(0.4, rel=0.01)
    assert rate.median_seconds() == 0.4
