"""The helper for real servers: a metric that does not exist is an error, not 0."""

import pytest

from tests.running_server import value_of

PAGE = """\
# HELP plain_total A counter
# TYPE plain_total counter
plain_total 3.0
# TYPE labelled_total counter
labelled_total{route="image",status="200"} 5.0
labelled_total{route="a\\"b,c",status="404"} 1e+02
# TYPE empty_total counter
# TYPE seconds histogram
seconds_bucket{le="0.1"} 1.0
seconds_count 2.0
seconds_sum 0.5
"""


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("plain_total", {}, 3),
        ("labelled_total", {"status": "200", "route": "image"}, 5),
        ("labelled_total", {"route": 'a\\"b,c', "status": "404"}, 100),
        ("labelled_total", {"route": "image", "status": "500"}, 0),
        ("empty_total", {"any": "label"}, 0),
        ("seconds_count", {}, 2),
        ("seconds_bucket", {"le": "0.1"}, 1),
    ],
)
def test_the_value_of_a_series(name, labels, expected):
    assert value_of(PAGE, name, labels) == expected


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("plain", {}),
        ("plian_total", {}),
        ("plain_total_count", {}),
        ("plain_total", {"route": "image"}),
        ("labelled_total", {}),
        ("labelled_total", {"route": "image"}),
        ("labelled_total", {"route": "image", "code": "200"}),
    ],
)
def test_an_unknown_metric_or_label_is_an_error(name, labels):
    with pytest.raises(AssertionError):
        value_of(PAGE, name, labels)
