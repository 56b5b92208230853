"""Estimates refuse nothing: an idle server tries every render, and learns from it."""

import pytest

from tests.running_server import CASES, serving


@pytest.mark.parametrize("name", ["f1_two_2000x1500.gif", "f1_two_2400x1800.gif"])
@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_fresh_server_renders_a_large_animation(name, kind):
    with serving(CASES, workers_count=1) as server:
        assert server.ask(f"/img/f_{kind}/{name}").status == 200


def test_renders_of_a_long_animation_refuse_no_short_one():
    with serving(CASES, workers_count=1) as server:
        for width in range(100, 110):
            assert server.ask(f"/img/w_{width}/f1_pan90.gif").status == 200

        assert server.ask("/img/w_601/f1_two_640x480.gif").status == 200


def test_a_fresh_server_refuses_an_output_over_the_limits_as_a_bad_request():
    with serving(CASES, workers_count=1) as server:
        assert [server.ask("/img/c_fit,w_8192/f1_3x5.png").status for _ in range(2)] == [400, 400]
