"""The optional nginx directives of docs/caching.md."""

import signal

from tests.conformance.nginx import BACKGROUND_UPDATE, KEY_LINE, SLICES, needs_nginx, nginx
from tests.running_server import wait_until

pytestmark = needs_nginx


def test_with_background_updates_no_client_waits_for_a_stalled_server(origin, tmp_path):
    with nginx(tmp_path, origin, more={KEY_LINE: KEY_LINE + BACKGROUND_UPDATE}) as front:
        first = front.ask("/img/w_70/cat.png")
        origin.process.send_signal(signal.SIGSTOP)
        try:
            seen = []
            wait_until(lambda: not seen.append(front.ask("/img/w_70/cat.png")) and is_stale(seen[-1]), "it is stale")
        finally:
            origin.process.send_signal(signal.SIGCONT)

    assert {(answer.status, answer.body) for answer in seen} == {(200, first.body)}
    assert max(answer.seconds for answer in seen) < 0.9


def is_stale(answer) -> bool:
    return answer.headers["X-Cache"] in ("STALE", "UPDATING")


def test_joined_slices_equal_the_picture(origin, tmp_path):
    target = "/img/w_1200,f_png/dandelion.jpg"
    direct = origin.ask(target)
    with nginx(tmp_path, origin, more={KEY_LINE: SLICES}) as front:
        part = front.ask(target, headers={"Range": "bytes=300000-600000"})
        whole = front.ask(target)

    assert len(direct.body) > 3 * 256 * 1024
    assert (part.status, part.body) == (206, direct.body[300000:600001])
    assert (whole.status, whole.body) == (200, direct.body)


def test_slices_also_serve_small_pictures_conditional_requests_and_errors(origin, tmp_path):
    with nginx(tmp_path, origin, more={KEY_LINE: SLICES}) as front:
        small = front.ask("/img/w_71/cat.png")
        again = front.ask("/img/w_71/cat.png", headers={"If-None-Match": small.headers["ETag"]})

        assert (small.status, small.body) == (200, origin.ask("/img/w_71/cat.png").body)
        assert again.status == 304
        assert front.ask("/img/w_71/nosuch.png").status == 404
