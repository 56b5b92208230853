"""The claims of docs/caching.md about Varnish alone."""

from tests.conformance.test_fronts import BROWSERS
from tests.conformance.varnish import needs_varnish, varnish

pytestmark = needs_varnish


def test_a_negotiated_url_is_cached_at_most_three_times(origin, tmp_path):
    with varnish(tmp_path, origin) as front:
        before = front.counter("MAIN.n_object")
        for number in range(50):
            for accept, _ in BROWSERS.values():
                front.ask("/img/w_80,f_auto/dogs.jpg", headers={"Accept": f"{accept},x/{number}", "Cookie": "a=b"})

        assert front.counter("MAIN.n_object") - before <= 3
        assert front.counter("MAIN.s_fetch") <= 10
