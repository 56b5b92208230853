"""The security policy of a running server: client lists, rate limits, trusted proxies, and a file that changes under
load."""

import http.client
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from imgserver.settings.policy_file import BadPolicy
from imgserver.settings.schema import SecuritySettings, Settings
from imgserver.web.app import make_app
from tests.multipart_forms import CONTENT_TYPE, form, picture
from tests.polling import wait_until
from tests.redis_server import RedisServer, running
from tests.running_server import SAMPLES, ServerProcess, serving

IMAGE = "/img/w_40/cat.png"
PHOTO = (SAMPLES / "cat.png").read_bytes()
PROBES = ("/livez", "/readyz", "/api/health")
PROXY = "proxies: {networks: [127.0.0.0/8]}\n"
KEY = "0123456789abcdef"


@dataclass(slots=True)
class PolicyServer:
    """A server with a policy file. The counts of its rate limits live as long as the server, so each test uses client
    addresses of its own."""

    server: ServerProcess
    file: Path
    earlier_events: int = 0

    def apply(self, text: str) -> None:
        """Replaces the file and waits until the server has reloaded or refused it."""
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(text)
        fresh.replace(self.file)
        self.server.reload()

    def events(self) -> list[dict]:
        """The log events of this test."""
        # The event of a reload is written after all earlier ones.
        self.server.reload()
        return self.server.events()[self.earlier_events :]

    def security_events(self) -> list[tuple[str, str]]:
        events = [event for event in self.events() if event["event"].startswith("security.")]
        return [(event["event"].removeprefix("security."), event["reason"]) for event in events]


@contextmanager
def serving_policy(folder: Path, text: str = "", **settings: object) -> Iterator[PolicyServer]:
    file = folder / "security.yaml"
    file.write_text(text)
    with serving(workers_count=1, security_policy=file, **settings) as server:
        yield PolicyServer(server, file)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[PolicyServer]:
    with serving_policy(tmp_path_factory.mktemp("policy"), admin_key=KEY, uploads_max_body_bytes=len(PHOTO)) as policed:
        yield policed


@pytest.fixture
def policed(shared) -> Iterator[PolicyServer]:
    """The shared server with an empty policy."""
    shared.apply("")
    shared.earlier_events = len(shared.server.events())
    yield shared
    shared.apply("")


def as_client(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def test_a_denied_client_gets_403_and_probes_are_answered(policed):
    policed.apply("clients: {deny: [127.0.0.0/8]}")
    refused = [policed.server.ask(path) for path in (IMAGE, "/nothing", "/", "/metrics", "/api/image/health")]
    probes = [policed.server.ask(path).status for path in PROBES]
    events = [event for event in policed.security_events() if event[0] == "address_denied"]

    assert [answer.status for answer in refused] == [403] * 5
    assert refused[0].json()["type"] == "urn:imgserver:error:address-denied"
    assert {answer.headers["Cache-Control"] for answer in refused} == {"no-store"}
    assert probes == [200, 200, 200]
    assert events == [("address_denied", "deny")] * 5


def test_an_allow_list_refuses_all_other_clients(policed):
    policed.apply(PROXY + "clients: {allow: [192.0.2.0/24, 127.0.0.1], deny: [192.0.2.9]}")
    statuses = {
        address: policed.server.ask(IMAGE, headers=as_client(address)).status
        for address in ("192.0.2.1", "192.0.2.9", "198.51.100.1")
    }

    assert statuses == {"192.0.2.1": 200, "192.0.2.9": 403, "198.51.100.1": 403}


def test_forwarded_headers_of_an_untrusted_peer_are_ignored(policed):
    policed.apply("clients: {deny: [192.0.2.0/24]}\nproxies: {networks: [10.0.0.0/8]}")
    answer = policed.server.ask(IMAGE, headers=as_client("192.0.2.1") | {"Forwarded": "for=192.0.2.1"})
    (event,) = [event for event in policed.events() if event["event"] == "request"]

    assert (answer.status, event["remote"]) == (200, "127.0.0.1")


def test_the_client_behind_a_trusted_proxy_is_in_the_log_and_the_audit(policed):
    policed.apply(PROXY)
    policed.server.ask(IMAGE, headers=as_client("203.0.113.5, 192.0.2.77, 127.0.0.3"))
    policed.server.ask("/api/admin/purge", "POST", as_client("192.0.2.77") | {"Content-Length": "0"})
    events = policed.events()

    assert [event["remote"] for event in events if event["event"] == "request"] == ["192.0.2.77"] * 2
    assert [event["remote"] for event in events if event["event"] == "security.auth_failed"] == ["192.0.2.0/24"]


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Iterator[PolicyServer]:
    with serving_policy(
        tmp_path_factory.mktemp("private"), PROXY, http_metrics_public="false", admin_key=KEY
    ) as policed:
        yield policed


def test_private_pages_are_hidden_from_clients_behind_a_local_proxy(private):
    server = private.server
    local, remote = server.ask("/metrics"), server.ask("/metrics", headers=as_client("192.0.2.1"))
    details = server.ask("/api/image/health").json()
    summary = server.ask("/api/image/health", headers=as_client("192.0.2.1"))
    private.apply("")
    behind_an_untrusted_proxy = server.ask("/metrics", headers=as_client("127.0.0.1"))

    assert (local.status, remote.status, behind_an_untrusted_proxy.status) == (200, 404, 404)
    assert "workers" in details
    assert (summary.status, summary.json()) == (200, {"status": "ok"})


def test_a_client_over_its_rate_gets_429_with_retry_after_and_others_do_not(policed):
    policed.apply(PROXY + "rates: {pictures: {per_second: 0.5, burst: 3}}")
    server = policed.server
    answers = [server.ask(IMAGE, headers=as_client("192.0.2.11")) for _ in range(5)]
    other = server.ask(IMAGE, headers=as_client("192.0.2.12"))
    paths = (*PROBES, "/metrics", "/api/image/health")
    probes = [server.ask(path, headers=as_client("192.0.2.11")).status for path in paths for _ in range(5)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[3].headers["Retry-After"] in ("1", "2")
    assert answers[3].headers["Cache-Control"] == "no-store"
    assert answers[3].json()["type"] == "urn:imgserver:error:quota-exceeded"
    assert other.status == 200
    assert set(probes) == {200}
    assert policed.security_events().count(("quota_exceeded", "pictures")) == 2


def test_an_ipv6_network_is_one_client(policed):
    policed.apply(PROXY + "rates: {pictures: {per_second: 0.01, burst: 2}}")
    same = [policed.server.ask(IMAGE, headers=as_client(f"2001:db8:1:2::{n:x}")).status for n in range(4)]
    other = policed.server.ask(IMAGE, headers=as_client("2001:db8:1:3::1")).status

    assert (same, other) == ([200, 200, 429, 429], 200)


def test_every_class_of_routes_has_its_own_rate(policed):
    policed.apply("rates: {admin: {per_second: 0.01, burst: 1}}")
    purges = [policed.server.post("/api/admin/purge", {"source": "a.png"}, key=KEY).status for _ in range(2)]
    images = {policed.server.ask(IMAGE).status for _ in range(5)}

    assert (purges, images) == ([200, 429], {200})


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def pair(tmp_path_factory, redis) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two servers that share Redis and a rate limit."""
    text = PROXY + "rates: {pictures: {per_second: 0.01, burst: 4}}"
    settings = {"redis_url": redis.url, "redis_timeout_seconds": 1}
    with (
        serving_policy(tmp_path_factory.mktemp("one"), text, **settings) as one,
        serving_policy(tmp_path_factory.mktemp("two"), text, **settings) as two,
    ):
        yield one.server, two.server


def test_two_servers_with_one_redis_count_a_client_together(pair):
    statuses = [server.ask(IMAGE, headers=as_client("192.0.2.31")).status for _ in range(3) for server in pair]

    assert statuses == [200] * 4 + [429] * 2


def test_without_redis_each_server_counts_for_itself(pair, redis):
    headers = as_client("192.0.2.32")
    first = pair[0].ask(IMAGE, headers=headers)
    redis.kill()
    answers = [pair[0].ask(IMAGE, headers=headers) for _ in range(5)]

    assert first.status == 200
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert max(answer.seconds for answer in answers) < 3


def test_the_pixels_and_formats_of_the_policy_hold(policed):
    policed.apply("pixels: {output: 10000}\nformats: {read: [png], write: [jpg, png, gif]}")
    answers = {
        target: policed.server.ask(f"/img/{target}", headers={"Accept": "image/avif,image/webp"})
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


def test_the_upload_limits_of_the_policy_hold_and_change(policed):
    def statuses() -> list[int]:
        two = form(picture(PHOTO[:100]), picture(PHOTO[:100]))
        return [upload(policed.server, PHOTO, "image/png"), upload(policed.server, two, CONTENT_TYPE)]

    by_the_settings = statuses()
    policed.apply("uploads: {body_bytes: 2000, parts: 1}")
    by_the_policy = statuses()
    policed.apply("uploads: {body_bytes: nonsense}")
    by_the_refused_policy = statuses()
    policed.apply("")
    by_the_settings_again = statuses()

    # Each of several images has its own result in a 200; these two are broken.
    assert by_the_settings == by_the_settings_again == [200, 200]
    assert by_the_policy == by_the_refused_policy == [413, 413]


def upload(server: ServerProcess, body: bytes, content_type: str) -> int:
    headers = {
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Accept": "application/json",
        "Authorization": f"Bearer {KEY}",
    }
    return server.ask("/api/image/optimize?w=20", "POST", headers, body).status


def test_wrong_keys_count_for_the_client_behind_a_trusted_proxy(policed):
    policed.apply(PROXY)
    guesses = [guess(policed.server, as_client(f"203.0.113.{n}, 192.0.2.21")) for n in range(11)]
    other = guess(policed.server, as_client("192.0.2.22"))

    assert (guesses, other) == ([401] * 10 + [429], 401)


def test_wrong_keys_of_an_untrusted_peer_count_for_one_client(private):
    private.apply("")
    guesses = [guess(private.server, as_client(f"192.0.2.{n}") | {"Forwarded": f"for=192.0.2.{n}"}) for n in range(11)]

    assert guesses == [401] * 10 + [429]


def guess(server: ServerProcess, headers: dict[str, str]) -> int:
    headers = {**headers, "Authorization": "Bearer nobody.knows", "Content-Length": "0"}
    return server.ask("/api/image/optimize", "POST", headers).status


def test_a_faulty_policy_stops_the_start(tmp_path):
    file = tmp_path / "security.yaml"
    file.write_text("clints: {}")

    with pytest.raises(BadPolicy, match=r"no entry clints; nearest: clients"):
        make_app(Settings(security=SecuritySettings(policy=file)), log_stream=BytesIO())


def test_sighup_enforces_a_new_policy_and_keeps_the_old_one_if_the_new_one_is_faulty(policed):
    refusals = policed.server.metric("imgserver_security_events_total", event="policy_refused", reason="invalid")
    open_to_all = policed.server.ask(IMAGE).status
    policed.apply("clients: {deny: [127.0.0.1]}")
    closed = policed.server.ask(IMAGE).status
    policed.apply("clients: {deny: [127.0.0]}")
    still_closed = policed.server.ask(IMAGE).status
    # The list applies to scrapes too, but not to probes.
    alive = policed.server.ask("/readyz").status
    policed.apply("")
    opened = policed.server.ask(IMAGE).status
    succeeded = policed.server.metric("imgserver_policy_last_reload_successful")
    refused = policed.server.metric("imgserver_security_events_total", event="policy_refused", reason="invalid")
    events, security_events = policed.events(), policed.security_events()

    assert (open_to_all, closed, still_closed, alive, opened) == (200, 403, 403, 200, 200)
    assert (succeeded, refused - refusals) == (1, 1)
    assert [event for event in security_events if event[0].startswith("policy")] == [
        ("policy_changed", "reload"),
        ("policy_refused", "invalid"),
        ("policy_changed", "reload"),
    ]
    (error,) = [event for event in events if event["event"] == "reload.refused"]
    assert (error["level"], error["part"]) == ("error", "policy")
    assert '"127.0.0" is not allowed' in error["detail"]


def test_the_digest_of_the_policy_in_force_is_a_metric(policed):
    policed.apply("rates: {admin: {burst: 7}}")
    before = digests(policed.server)
    read_at = policed.server.metric("imgserver_policy_last_reload_success_timestamp_seconds")
    policed.apply("rates: {admin: {burst: 8}}")
    after = digests(policed.server)
    policed.apply("rates: {admin: {burst: x}}")
    still, succeeded = digests(policed.server), policed.server.metric("imgserver_policy_last_reload_successful")
    again = policed.server.metric("imgserver_policy_last_reload_success_timestamp_seconds")

    assert len(before) == len(after) == 1
    assert before != after
    assert (still, succeeded) == (after, 0)
    assert time.time() - 60 < read_at < again


def digests(server: ServerProcess) -> list[str]:
    lines = server.ask("/metrics").body.decode().splitlines()
    return [line for line in lines if line.startswith("imgserver_policy_info{")]


def test_a_new_policy_holds_on_open_connections(policed):
    connection = http.client.HTTPConnection("127.0.0.1", policed.server.port, timeout=10)
    statuses = [status_of(connection)]
    policed.apply("clients: {deny: [127.0.0.1]}")
    statuses.append(status_of(connection))
    connection.close()

    assert statuses == [200, 403]


def status_of(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", IMAGE)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_no_request_fails_during_reloads_under_load(policed):
    """Fault 37: valid files, faulty files and a missing file, while four clients send requests without a pause."""
    texts = [
        "rates: {pictures: {per_second: 100000, burst: 100000}}",
        "clients: {allow: [127.0.0.0/8]}\nproxies: {hops: 1}",
        "clients: {deny: [nonsense",
        PROXY + "clients: {deny: [192.0.2.0/24]}",
        "",
    ]
    statuses: Counter[int | str] = Counter()
    done = threading.Event()
    clients = [threading.Thread(target=request_until, args=(policed.server, done, statuses)) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(2):
        for text in texts:
            policed.apply(text)
        os.kill(policed.server.process.pid, signal.SIGHUP)
    policed.file.unlink()
    policed.server.reload()
    wait_until(lambda: statuses.total() > 200, "enough requests are answered")
    done.set()
    for client in clients:
        client.join(10)

    assert set(statuses) == {200}


def request_until(server: ServerProcess, done: threading.Event, statuses: Counter) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    number = 0
    while not done.is_set():
        number += 1
        try:
            # Every tenth request is for a rendition that is not cached.
            connection.request("GET", f"/img/w_{10 + number // 10 % 300}/cat.png")
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
        except OSError as error:
            statuses[type(error).__name__] += 1
            return
    connection.close()
