"""Signed URLs, presets, snapped sizes and the quota, on real servers."""

import io
import re
import time
from collections.abc import Iterator

import pytest
from PIL import Image

from imgserver.security.signing import Keyring, SigningKey
from tests.running_server import Answer, ServerProcess, serving, wait_until

OLD, NEW = SigningKey(bytes(range(32))), SigningKey(bytes(range(100, 132)))
YEAR_2027 = 1_798_761_600


@pytest.fixture(scope="module")
def closed() -> Iterator[ServerProcess]:
    """Requires signatures, and has two keys, as during a rotation."""
    with serving(
        workers_count=1,
        signing_mode="required",
        signing_keys=f"{NEW.serialize()},{OLD.serialize()}",
        admin_key="a key of sixteen characters",
        disk_limit_bytes=0,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def public() -> Iterator[ServerProcess]:
    """Needs no signature, but bounds the sizes and the number of renditions of unsigned URLs."""
    with serving(
        workers_count=1,
        signing_keys=NEW.serialize(),
        native_snap_widths="100, 200, 400",
        quota_renditions_per_minute=1,
        quota_burst=3,
        presets_card="c_fill,w_100,h_100/f_webp",
        disk_limit_bytes=0,
    ) as running:
        yield running


def signed(rest: str, key: SigningKey = NEW) -> str:
    return f"/img/s--{Keyring((key,)).sign(rest, source='photos')}--/{rest}"


def size(answer: Answer) -> tuple[int, int]:
    return Image.open(io.BytesIO(answer.body)).size


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.headers["X-Imgserver-Error"]


def lookups(server: ServerProcess) -> list[str]:
    """The counters of source, cache and workers."""
    series = ("imgserver_cache_requests_total", "imgserver_images_total", "imgserver_source_bytes_total")
    return [line for line in server.ask("/metrics").body.decode().splitlines() if line.startswith(series)]


def test_urls_of_both_keys_are_valid_during_a_rotation(closed: ServerProcess):
    answers = [
        closed.ask(signed(f"w_40,q_{quality}/coffee.png", key)) for key in (OLD, NEW) for quality in range(9, 14)
    ]

    assert [answer.status for answer in answers] == [200] * 10


def test_signatures_of_different_keys_share_a_rendition(closed):
    closed.ask(signed("w_41/coffee.png"))

    for target in (signed("w_41/coffee.png", OLD), signed(f"exp_{YEAR_2027}/w_41/coffee.png")):
        assert closed.ask(target).headers["Cache-Status"].startswith("imgserver; hit")


def test_a_flipped_byte_of_signature_or_path_is_refused_before_source_cache_and_workers(closed):
    target = signed("w_42,q_80/coffee.png")
    assert closed.ask(target).status == 200
    seen, rejected = (
        lookups(closed),
        closed.metric("imgserver_security_events_total", event="signature_rejected", reason="wrong"),
    )
    for at in range(len("/img/"), len(target)):
        flipped = target[:at] + chr(ord(target[at]) ^ 1) + target[at + 1 :]
        assert code(closed.ask(flipped)) == (403, "signature-refused"), flipped
    assert lookups(closed) == seen
    assert closed.metric("imgserver_security_events_total", event="signature_rejected", reason="wrong") > rejected + 30


@pytest.mark.parametrize("target", ["/img/w_43/coffee.png", "/img/missing.png", "/img/w_80O/x.png", "/img/s--x--"])
def test_an_unsigned_url_is_refused_before_it_is_parsed(closed, target):
    seen = lookups(closed)

    assert code(closed.ask(target)) == (403, "signature-refused")
    assert lookups(closed) == seen


def audited(server: ServerProcess, target: str) -> dict[str, object]:
    """The audit event of one more request. The audit is rate-limited: other tests may delay the event by a second."""
    found: list[dict[str, object]] = []

    def is_told() -> bool:
        request_id = server.ask(target).headers["X-Request-Id"]
        wait_until(lambda: any(event.get("request_id") == request_id for event in server.events()), "it is logged")
        events = [event for event in server.events() if event.get("request_id") == request_id]
        found.extend(event for event in events if event["event"].startswith("security."))
        return bool(found)

    wait_until(is_told, "it is audited")
    return found[-1]


def test_refusals_are_audited_without_the_signature(closed):
    event = audited(closed, "/img/s--AAAAAAAAAAAAAAAAAAAAAA--/w_44/coffee.png")

    assert event | {"timestamp": ""} == {
        "event": "security.signature_rejected",
        "reason": "wrong",
        "request_id": event["request_id"],
        "remote": "127.0.0.0/24",
        "level": "warning",
        "timestamp": "",
    }
    text = closed.log.read_text()
    assert "AAAAAAAA" not in text and signed("w_41/coffee.png").split("--")[1] not in text
    assert NEW.secret.hex() not in text and OLD.secret.hex() not in text
    assert "/img/s--...--/w_44/coffee.png" in text


def test_a_link_expires_at_its_second_for_conditional_requests_too(closed):
    ends = int(time.time()) + 2
    target = signed(f"exp_{ends}/w_45/coffee.png")
    first = closed.ask(target)
    etag = {"If-None-Match": first.headers["ETag"]}

    assert first.status == 200
    age = re.fullmatch(r"max-age=(\d), stale-while-revalidate=0, stale-if-error=0", first.headers["Cache-Control"])
    assert age and int(age[1]) <= 2
    wait_until(lambda: closed.ask(target).status == 410, "the link is over")
    assert time.time() >= ends
    assert code(closed.ask(target, headers=etag)) == code(closed.ask(target, "HEAD")) == (410, "expired")
    assert closed.ask(signed("w_45/coffee.png")).headers["Cache-Status"].startswith("imgserver; hit")
    assert closed.metric("imgserver_security_events_total", event="signature_expired", reason="expired") >= 3


def test_an_unexpired_link_is_cacheable_until_it_expires(closed):
    answer = closed.ask(signed(f"exp_{YEAR_2027 * 5}/w_46/coffee.png"))

    assert answer.headers["Cache-Control"] == closed.ask(signed("w_46/coffee.png")).headers["Cache-Control"]


def test_a_purge_by_url_needs_no_signature(closed):
    closed.ask(signed("w_47/coffee.png"))
    answer = closed.post("/api/admin/purge", {"url": "/img/w_47/coffee.png"}, key="a key of sixteen characters")

    assert answer.json()["removed"]["memory"] == 1
    assert closed.ask(signed("w_47/coffee.png")).headers["Cache-Status"].endswith("stored")


def test_the_gallery_of_a_server_that_requires_signatures_has_signed_urls(closed):
    page = closed.ask("/").body.decode()
    targets = re.findall(r'src="([^"]+)"', page)

    assert len(targets) > 5
    assert closed.ask(targets[0]).status == 200


def test_unsigned_urls_get_snapped_sizes(public):
    assert size(public.ask("/img/w_101/autumn.jpg"))[0] == 200
    assert public.ask("/img/w_183/autumn.jpg").headers["Cache-Status"].startswith("imgserver; hit")
    assert size(public.ask("/img/dpr_1.1,w_150/autumn.jpg"))[0] == 400


def test_unsigned_urls_have_a_quota_of_new_renditions_per_original(public):
    effects = [f"/img/w_100,e_hue:{degrees}/dogs.jpg" for degrees in range(1, 7)]
    answers = [public.ask(target) for target in effects]

    assert [answer.status for answer in answers] == [200] * 3 + [503] * 3
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 60
    assert answers[3].headers["Cache-Control"] == "no-store"
    assert code(answers[3]) == (503, "original-busy")
    assert public.metric("imgserver_security_events_total", event="quota_exceeded", reason="renditions") >= 3
    assert public.ask(effects[0]).status == 200
    assert public.ask(signed("w_100,e_hue:99/dogs.jpg")).status == 200


def test_a_preset_of_the_settings_is_served(public):
    answer = public.ask("/img/t_card/sunset.jpg")

    assert (answer.headers["Content-Type"], size(answer)) == ("image/webp", (100, 100))


def test_a_server_that_allows_presets_only_refuses_other_options():
    with serving(workers_count=1, native_presets_only="true", presets_card="w_60", disk_limit_bytes=0) as server:
        refused, card = server.ask("/img/w_60/cat.png"), server.ask("/img/t_card/cat.png")
        targets = set(re.findall(r'(?:src|href)="(/img/[^"]+)"', server.ask("/").body.decode()))

    assert code(refused) == (400, "bad-option")
    assert size(card)[0] == 60
    assert {"/img/cat.png", "/img/t_card/cat.png"} <= {target.partition("?")[0] for target in targets}


def test_only_a_version_that_the_signature_covers_gives_a_lifetime_of_a_year(closed):
    covered = signed("w_40/cat.png?v=3")
    added = signed("w_40/cat.png") + "?v=3"
    answers = [closed.ask(covered), closed.ask(added), closed.ask(covered + "&v=4")]

    assert [answer.status for answer in answers] == [200, 200, 403]
    assert ["immutable" in answer.headers["Cache-Control"] for answer in answers] == [True, False, False]
