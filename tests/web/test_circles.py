"""Remote URLs that lead through other imgservers: a chain of two servers is fetched, a longer one or a loop is not."""

from collections.abc import Iterator

import pytest

from tests.running_server import ServerProcess, serving, wait_until


@pytest.fixture(scope="module")
def inner() -> Iterator[ServerProcess]:
    with serving(workers_count=1, remote_enabled="true", remote_allowed_urls="http://127.0.0.1:9") as running:
        yield running


def test_a_chain_through_one_other_server_is_fetched_and_through_two_is_refused(inner):
    allowed = f"http://127.0.0.1:{inner.port}"
    address = f"http:/127.0.0.1:{inner.port}/img"
    with serving(
        workers_count=1, remote_enabled="true", remote_allowed_urls=allowed, remote_allowed_networks="127.0.0.0/8"
    ) as outer:
        assert outer.ask(f"/img/w_20/{address}/w_40/cat.png").status == 200
        assert outer.ask(f"/img/w_20/{address}/w_40/http:/127.0.0.1:9/cat.png").status == 404

    def seen() -> set[tuple[int, str]]:
        events = [event for event in inner.events() if event.get("target", "").endswith(":9/cat.png")]
        return {(event["status"], event["error"]) for event in events}

    wait_until(lambda: bool(seen()), "it is logged")
    assert seen() == {(403, "source-denied")}


@pytest.mark.parametrize("field", ["imgserver", "imgserver, cloud.example", "cloud.example; x=1, imgserver"])
def test_a_request_that_came_through_another_imgserver_is_not_fetched(inner, field):
    target = "/img/http:/127.0.0.1:9/x.png"
    refused = inner.ask(target, headers={"CDN-Loop": field})

    assert (refused.status, refused.headers["Cache-Control"]) == (403, "no-store")
    assert "not through two" in refused.json()["detail"]
    for other in ("cloud.example", "imgserver-cdn", "my.imgserver.example", 'cloud; by="x, imgserver"'):
        assert inner.ask(target, headers={"CDN-Loop": other}).status != 403
    assert inner.ask("/img/w_40/cat.png", headers={"CDN-Loop": field}).status == 200
