"""The events of requests: what they say about images and errors, and which secrets they leave out."""

from typing import Any

import pytest

from tests.polling import wait_until
from tests.redis_server import running as running_redis
from tests.running_server import ServerProcess, serving

SECRET = "hunter2"


@pytest.fixture(scope="module")
def server():
    with serving(workers_count=1, quota_renditions_per_minute=1, quota_burst=3) as running:
        yield running


def event_of(server: ServerProcess, target: str, name: str, **headers: str) -> dict[str, Any]:
    """The event of a request with this id."""
    server.ask(target, headers={**headers, "X-Request-Id": name})

    def found() -> list[dict[str, Any]]:
        return [event for event in server.events() if event.get("request_id") == name and event["event"] == "request"]

    wait_until(lambda: bool(found()), "the request is logged")
    return found()[0]


def test_a_render_has_its_format_and_the_seconds_of_its_stages(server):
    event = event_of(server, "/img/w_40,f_auto/cat.png", "rendered", Accept="image/webp")

    assert (event["outcome"], event["format"], event.get("tier")) == ("rendered", "webp", None)
    assert list(event["stages"]) == ["queue", "fetch", "decode", "transform", "encode"]
    assert event["stages"]["encode"] > 0
    assert sum(event["stages"].values()) <= event["seconds"] + 0.001


def test_a_hit_has_its_format_and_tier(server):
    server.ask("/img/w_41/dogs.jpg")
    fast = event_of(server, "/img/w_41/dogs.jpg", "fast")
    through_the_framework = event_of(server, "/img/w_41/dogs.jpg", "slow", Connection="close")
    a_range = event_of(server, "/img/w_41/dogs.jpg", "range", Range="bytes=0-9")

    for event in (fast, through_the_framework, a_range):
        assert (event["outcome"], event["format"], event["tier"]) == ("hit", "jpg", "memory")
        assert "stages" not in event


@pytest.mark.parametrize(
    ("target", "error", "reason", "detail"),
    [
        ("/img/w_4x/cat.png", "bad-option", "w", 'w: "4x" is not allowed'),
        ("/img/w_40/absent.png", "not-found", None, "There is no such image"),
        ("/img/w_40/https://images.example.com/a.jpg", "source-denied", "no_remote", "remote"),
        ("/img/w_9999/cat.png", "bad-option", "w", "9999"),
    ],
)
def test_an_error_has_its_reason_and_its_sentence(server, target, error, reason, detail):
    event = event_of(server, target, f"error-{error}-{len(target)}")

    assert (event["error"], event["reason"]) == (error, reason)
    assert detail in event["detail"]


def test_a_refusal_by_the_quota_has_its_reason(server):
    for width in range(50, 54):
        server.ask(f"/img/w_{width}/sunset.jpg")

    assert event_of(server, "/img/w_55/sunset.jpg", "over-quota")["reason"] == "renditions"


@pytest.mark.parametrize(
    "target",
    [
        f"/img/w_40/https://user:{SECRET}@images.example.com/a.jpg",
        f"/img/w_40/https%3A%2F%2Fuser%3A{SECRET}%40images.example.com%2Fa.jpg",
        f"/img/w_40/https://images.example.com/a.jpg?token={SECRET}",
        f"/img/w_40/https%3A%2F%2Fimages.example.com%2Fa.jpg%3FX-Amz-Signature%3D{SECRET}",
        f"/img/s--{SECRET}--/w_40/cat.png",
        f"/img/w_40/cat.png?key={SECRET}",
        f"/img/w_{SECRET}x/cat.png?sig={SECRET}".replace(f"w_{SECRET}x", "w_x"),
        f"/api/health?api_key={SECRET}",
        f"/absent?password={SECRET}",
        f"/metrics?access_token={SECRET}",
        "/img/w_40/https://user:" + "x" * 300 + f"{SECRET}@images.example.com/a.jpg",
    ],
)
def test_no_secret_of_a_url_is_in_the_log(server, target):
    server.ask(target)
    event_of(server, "/absent", f"after-{abs(hash(target))}")

    assert SECRET not in server.log.read_text()


def test_a_degraded_server_says_why_in_health_and_log(tmp_path):
    with running_redis(tmp_path) as redis, serving(workers_count=1, redis_url=redis.url) as server:
        wait_until(lambda: status(server) == "ok", "it is ok")
        redis.kill()
        for width in range(60, 90):
            server.ask(f"/img/w_{width}/cat.png")
        wait_until(lambda: status(server) == "degraded", "health reports it")
        health, ready = server.ask("/api/health").json(), server.ask("/readyz").json()
        wait_until(lambda: any(event["event"] == "health.degraded" for event in server.events()), "it is logged")
        (logged, *_) = [event for event in server.events() if event["event"] == "health.degraded"]

    assert health["reasons"] == ready["reasons"] == logged["reasons"]
    assert [reason.partition(":")[0] for reason in logged["reasons"]] == ["redis"]
    assert logged["level"] == "warning"


def status(server: ServerProcess) -> str:
    return server.ask("/api/health").json()["status"]
