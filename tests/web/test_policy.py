"""A policy at work: who is refused, who is slowed down, whose address counts, and a file that changes under load."""

import http.client
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.multipart_forms import CONTENT_TYPE, form, picture
from tests.redis_server import running
from tests.running_server import SAMPLES, ServerProcess, serving

PICTURE = "/img/w_40/cat.png"
PHOTO = (SAMPLES / "cat.png").read_bytes()
HEALTH = ("/livez", "/readyz", "/api/health")
PROXY = "proxies: {networks: [127.0.0.0/8]}\n"


@contextmanager
def ruled(tmp_path: Path, text: str, **settings) -> Iterator[ServerProcess]:
    """A server by a policy, which `rule` replaces."""
    policy_of(tmp_path).write_text(text)
    with serving(workers_count=1, security_policy=policy_of(tmp_path), **settings) as server:
        yield server


def policy_of(tmp_path: Path) -> Path:
    return tmp_path / "security.yaml"


def reload(server: ServerProcess, tmp_path: Path, text: str) -> None:
    """Replaces the file, tells the server, and waits until it has read it."""
    fresh = tmp_path / "fresh"
    fresh.write_text(text)
    fresh.replace(policy_of(tmp_path))
    server.reload()


def security(server: ServerProcess) -> list[tuple[str, str]]:
    events = [event for event in server.events() if event["event"].startswith("security.")]
    return [(event["event"].removeprefix("security."), event["reason"]) for event in events]


def as_client(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def test_who_is_denied_gets_403_and_probes_are_answered_all_the_same(tmp_path):
    with ruled(tmp_path, "clients: {deny: [127.0.0.0/8]}") as server:
        refused = [server.ask(path) for path in (PICTURE, "/nothing", "/", "/metrics", "/api/image/health")]
        probes = [server.ask(path).status for path in HEALTH]
        server.stop()
        events = security(server)

    assert [answer.status for answer in refused] == [403] * 5
    assert refused[0].json()["type"] == "urn:imgserver:error:address-denied"
    assert {answer.headers["Cache-Control"] for answer in refused} == {"no-store"}
    assert probes == [200, 200, 200]
    assert events == [("address_denied", "deny")] * 5


def test_an_allow_list_refuses_everybody_else(tmp_path):
    with ruled(tmp_path, PROXY + "clients: {allow: [192.0.2.0/24, 127.0.0.1], deny: [192.0.2.9]}") as server:
        statuses = {
            address: server.ask(PICTURE, headers=as_client(address)).status
            for address in ("192.0.2.1", "192.0.2.9", "198.51.100.1")
        }

    assert statuses == {"192.0.2.1": 200, "192.0.2.9": 403, "198.51.100.1": 403}


def test_a_strangers_forwarded_for_changes_nothing(tmp_path):
    with ruled(tmp_path, "clients: {deny: [192.0.2.0/24]}\nproxies: {networks: [10.0.0.0/8]}") as server:
        answer = server.ask(PICTURE, headers=as_client("192.0.2.1") | {"Forwarded": "for=192.0.2.1"})
        server.stop()
        (event,) = [event for event in server.events() if event["event"] == "request"]

    assert (answer.status, event["remote"]) == (200, "127.0.0.1")


def test_the_client_behind_a_trusted_proxy_is_the_one_in_the_log_and_the_audit(tmp_path):
    with ruled(tmp_path, PROXY, admin_key="0123456789abcdef") as server:
        server.ask(PICTURE, headers=as_client("203.0.113.5, 192.0.2.77, 127.0.0.3"))
        server.ask("/api/admin/purge", "POST", as_client("192.0.2.77") | {"Content-Length": "0"})
        server.stop()
        events = server.events()

    assert [event["remote"] for event in events if event["event"] == "request"] == ["192.0.2.77"] * 2
    assert [event["remote"] for event in events if event["event"] == "security.auth_failed"] == ["192.0.2.0/24"]


def test_private_pages_are_not_shown_to_strangers_behind_a_local_proxy(tmp_path):
    with ruled(tmp_path, PROXY, http_metrics_public="false") as server:
        here, there = server.ask("/metrics"), server.ask("/metrics", headers=as_client("192.0.2.1"))
        details = server.ask("/api/image/health").json()
        summary = server.ask("/api/image/health", headers=as_client("192.0.2.1"))
    with serving(workers_count=1, http_metrics_public="false") as server:
        behind_an_unknown_proxy = server.ask("/metrics", headers=as_client("127.0.0.1"))

    assert (here.status, there.status, behind_an_unknown_proxy.status) == (200, 404, 404)
    assert "workers" in details
    assert (summary.status, summary.json()) == (200, {"status": "ok"})


def test_over_its_rate_a_client_is_told_when_to_come_back_and_others_are_not(tmp_path):
    with ruled(tmp_path, PROXY + "rates: {pictures: {per_second: 0.5, burst: 3}}") as server:
        answers = [server.ask(PICTURE, headers=as_client("192.0.2.1")) for _ in range(5)]
        other = server.ask(PICTURE, headers=as_client("192.0.2.2"))
        probes = [server.ask(path).status for path in (*HEALTH, "/metrics", "/api/image/health") for _ in range(5)]
        counted = server.metric("imgserver_security_events_total", event="quota_exceeded", reason="pictures")

    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[3].headers["Retry-After"] in ("1", "2")
    assert answers[3].headers["Cache-Control"] == "no-store"
    assert answers[3].json()["type"] == "urn:imgserver:error:quota-exceeded"
    assert other.status == 200
    assert set(probes) == {200}
    assert counted == 2


def test_an_ipv6_site_is_one_client(tmp_path):
    with ruled(tmp_path, PROXY + "rates: {pictures: {per_second: 0.01, burst: 2}}") as server:
        same = [server.ask(PICTURE, headers=as_client(f"2001:db8:1:2::{n:x}")).status for n in range(4)]
        other = server.ask(PICTURE, headers=as_client("2001:db8:1:3::1")).status

    assert (same, other) == ([200, 200, 429, 429], 200)


def test_classes_of_routes_are_limited_apart(tmp_path):
    with ruled(tmp_path, "rates: {admin: {per_second: 0.01, burst: 1}}", admin_key="0123456789abcdef") as server:
        purges = [server.post("/api/admin/purge", {"all": True}, key="0123456789abcdef").status for _ in range(2)]
        pictures = {server.ask(PICTURE).status for _ in range(5)}

    assert (purges, pictures) == ([200, 429], {200})


def test_two_servers_on_one_redis_count_a_client_together(tmp_path):
    rates = "rates: {pictures: {per_second: 0.01, burst: 4}}"
    with running(tmp_path) as redis:
        settings = {"redis_url": redis.url, "redis_timeout_seconds": 1}
        with ruled(tmp_path, rates, **settings) as one, ruled(tmp_path, rates, **settings) as two:
            statuses = [server.ask(PICTURE).status for _ in range(3) for server in (one, two)]

    assert statuses == [200] * 4 + [429] * 2


def test_a_redis_that_dies_leaves_each_server_to_count_for_itself(tmp_path):
    rates = "rates: {pictures: {per_second: 0.01, burst: 4}}"
    with running(tmp_path) as redis, ruled(tmp_path, rates, redis_url=redis.url) as server:
        first = server.ask(PICTURE)
        redis.kill()
        answers = [server.ask(PICTURE) for _ in range(5)]

    assert first.status == 200
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert max(answer.seconds for answer in answers) < 2


def test_pixels_and_formats_of_the_policy_hold(tmp_path):
    rules = "pixels: {output: 10000}\nformats: {read: [png], write: [jpg, png, gif]}"
    with ruled(tmp_path, rules) as server:
        answers = {
            target: server.ask(f"/img/{target}", headers={"Accept": "image/avif,image/webp"})
            for target in ("w_90/cat.png", "w_200/cat.png", "w_91,f_webp/cat.png", "w_92,f_auto/cat.png", "dogs.jpg")
        }

    assert {target: answer.status for target, answer in answers.items()} == {
        "w_90/cat.png": 200,
        "w_200/cat.png": 400,
        "w_91,f_webp/cat.png": 400,
        "w_92,f_auto/cat.png": 200,
        "dogs.jpg": 415,
    }
    assert answers["w_91,f_webp/cat.png"].json()["allowed"] == "jpg, png, gif"
    assert answers["w_92,f_auto/cat.png"].headers["Content-Type"] in ("image/png", "image/jpeg")


def test_the_policys_limits_of_uploads_hold_and_change(tmp_path):
    with ruled(tmp_path, "", uploads_max_body_bytes=len(PHOTO)) as server:

        def statuses() -> list[int]:
            two = form(picture(PHOTO[:100]), picture(PHOTO[:100]))
            return [sent(server, PHOTO, "image/png"), sent(server, two, CONTENT_TYPE)]

        by_the_settings = statuses()
        reload(server, tmp_path, "uploads: {body_bytes: 2000, parts: 1}")
        by_the_policy = statuses()
        reload(server, tmp_path, "uploads: {body_bytes: nonsense}")
        by_the_policy_still = statuses()
        reload(server, tmp_path, "")
        by_the_settings_again = statuses()

    # Of several pictures each has its own result in a 200; these two are broken.
    assert by_the_settings == by_the_settings_again == [200, 200]
    assert by_the_policy == by_the_policy_still == [413, 413]


def sent(server: ServerProcess, body: bytes, kind: str) -> int:
    fields = {"Content-Type": kind, "Content-Length": str(len(body)), "Accept": "application/json"}
    return server.ask("/api/image/optimize?w=20", "POST", fields, body).status


def test_wrong_keys_are_counted_for_the_client_behind_a_trusted_proxy(tmp_path):
    with ruled(tmp_path, PROXY, admin_key="0123456789abcdef") as server:
        guessing = [guess(server, as_client(f"203.0.113.{n}, 192.0.2.1")) for n in range(11)]
        other = guess(server, as_client("192.0.2.2"))

    assert (guessing, other) == ([401] * 10 + [429], 401)


def test_a_stranger_who_names_other_addresses_is_one_client_for_wrong_keys(tmp_path):
    with ruled(tmp_path, "", admin_key="0123456789abcdef") as server:
        guessing = [guess(server, as_client(f"192.0.2.{n}") | {"Forwarded": f"for=192.0.2.{n}"}) for n in range(11)]

    assert guessing == [401] * 10 + [429]


def guess(server: ServerProcess, fields: dict[str, str]) -> int:
    fields = {**fields, "Authorization": "Bearer nobody.knows", "Content-Length": "0"}
    return server.ask("/api/image/optimize", "POST", fields).status


def test_a_policy_with_faults_stops_the_start(tmp_path):
    with pytest.raises(AssertionError, match=r"no entry clints; nearest: clients"), ruled(tmp_path, "clints: {}"):
        pass


def test_sighup_puts_a_new_policy_into_force_and_a_bad_one_leaves_the_old(tmp_path):
    with ruled(tmp_path, "") as server:
        open_to_all = server.ask(PICTURE).status
        reload(server, tmp_path, "clients: {deny: [127.0.0.1]}")
        closed = server.ask(PICTURE).status
        reload(server, tmp_path, "clients: {deny: [127.0.0]}")
        still_closed = server.ask(PICTURE).status
        # The scrape goes over the list as well; a health probe tells that the server lives.
        alive = server.ask("/readyz").status
        reload(server, tmp_path, "")
        opened = server.ask(PICTURE).status
        succeeded = server.metric("imgserver_policy_last_reload_successful")
        refused = server.metric("imgserver_security_events_total", event="policy_refused", reason="invalid")
        server.stop()
        events, told = server.events(), security(server)

    assert (open_to_all, closed, still_closed, alive, opened) == (200, 403, 403, 200, 200)
    assert (succeeded, refused) == (1, 1)
    assert [event for event in told if event[0].startswith("policy")] == [
        ("policy_changed", "reload"),
        ("policy_refused", "invalid"),
        ("policy_changed", "reload"),
    ]
    (error,) = [event for event in events if event["event"] == "reload.refused"]
    assert (error["level"], error["part"]) == ("error", "policy")
    assert '"127.0.0" is not allowed' in error["detail"]


def test_the_policy_in_force_is_told_by_its_digest(tmp_path):
    with ruled(tmp_path, "rates: {admin: {burst: 7}}") as server:
        before = digests(server)
        read_at = server.metric("imgserver_policy_last_reload_success_timestamp_seconds")
        reload(server, tmp_path, "rates: {admin: {burst: 8}}")
        after = digests(server)
        reload(server, tmp_path, "rates: {admin: {burst: x}}")
        still, succeeded = digests(server), server.metric("imgserver_policy_last_reload_successful")
        again = server.metric("imgserver_policy_last_reload_success_timestamp_seconds")

    assert len(before) == len(after) == 1
    assert before != after
    assert (still, succeeded) == (after, 0)
    assert time.time() - 60 < read_at < again


def digests(server: ServerProcess) -> list[str]:
    lines = server.ask("/metrics").body.decode().splitlines()
    return [line for line in lines if line.startswith("imgserver_policy_info{")]


def test_a_kept_connection_meets_the_new_policy(tmp_path):
    with ruled(tmp_path, "") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        statuses = [status_of(connection)]
        reload(server, tmp_path, "clients: {deny: [127.0.0.1]}")
        statuses.append(status_of(connection))
        connection.close()

    assert statuses == [200, 403]


def status_of(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", PICTURE)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_reloads_under_load_fail_no_request(tmp_path):
    """Fault 37: good files, bad files, and a file that is not there, while four clients ask without a pause."""
    texts = [
        "rates: {pictures: {per_second: 100000, burst: 100000}}",
        "clients: {allow: [127.0.0.0/8]}\nproxies: {hops: 1}",
        "clients: {deny: [nonsense",
        PROXY + "clients: {deny: [192.0.2.0/24]}",
        "",
    ]
    statuses: Counter[int | str] = Counter()
    with ruled(tmp_path, "") as server:
        done = threading.Event()
        clients = [threading.Thread(target=ask_until, args=(server, done, statuses)) for _ in range(4)]
        for client in clients:
            client.start()
        for _ in range(4):
            for text in texts:
                reload(server, tmp_path, text)
            os.kill(server.process.pid, signal.SIGHUP)
        policy_of(tmp_path).unlink()
        server.reload()
        done.set()
        for client in clients:
            client.join(10)

    assert set(statuses) == {200}
    assert statuses.total() > 200


def ask_until(server: ServerProcess, done: threading.Event, statuses: Counter) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    number = 0
    while not done.is_set():
        number += 1
        try:
            # Every tenth is a picture nobody has asked for yet.
            connection.request("GET", f"/img/w_{10 + number // 10 % 300}/cat.png")
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
        except OSError as error:
            statuses[type(error).__name__] += 1
            return
    connection.close()
