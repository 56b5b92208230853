"""Hostile and odd files in a real server: refused with a clear error before decoding, and no worker dies."""

import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests import decompression_bombs
from tests.heic_files import heic
from tests.running_server import SAMPLES, ServerProcess, serving, wait_until

EXPECTED = {200, 400, 415, 422}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    for number, (name, data, _) in enumerate(decompression_bombs.refused()):
        (root / f"bomb_{number}_{name}".replace(" ", "_").replace("/", "_")).write_bytes(data)
    (root / "interlaced.png").write_bytes(decompression_bombs.interlaced_png(7_000))
    (root / "text_chunk.png").write_bytes(decompression_bombs.text_png())
    jpg, png = (SAMPLES / "dogs.jpg").read_bytes(), (SAMPLES / "cat.png").read_bytes()
    odd = {
        "empty.jpg": b"",
        "text.jpg": b"This is not an image.\n" * 50,
        "html.png": b"<!doctype html><script>alert(1)</script>",
        "truncated.jpg": jpg[: len(jpg) // 2],
        "truncated.png": png[: len(png) // 2],
        "zip_appended.jpg": jpg + b"PK\x03\x04 payload",
        "magic_only.png": png[:8],
        "magic_only.jpg": jpg[:3],
        "wrong_magic.gif": b"GIF89a" + png[6:],
        "svg.jpg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
        "matrix.jpg": b"P6 10 10 255\n" + bytes(300),
        "pdf.jpg": b"%PDF-1.7\n" + zlib.compress(bytes(1000)),
        "script.gif": b"GIF89a/*" + b"x" * 100 + b"*/=1;alert(1)",
    }
    for name, data in odd.items():
        (root / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def hostile(folder) -> Iterator[ServerProcess]:
    with serving(folder, workers_count=2) as running:
        yield running


def test_every_hostile_file_gets_a_clear_answer_and_no_worker_dies(folder, hostile):
    names = sorted(path.name for path in folder.iterdir())
    targets = [f"/img/{options}/{name}" for name in names for options in ("w_200", "w_200,f_webp,q_60")]
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(targets, pool.map(hostile.ask, targets), strict=True))
    facts = hostile.image_health()["workers"]

    assert {target: answer.status for target, answer in answers.items() if answer.status not in EXPECTED} == {}
    assert sum(facts["restarts"].values()) - facts["restarts"]["rss"] - facts["restarts"]["recycle"] == 0
    refused = [answer for answer in answers.values() if answer.status != 200]
    assert all(str(folder) not in answer.body.decode() for answer in refused)
    assert b"payload" not in answers["/img/w_200/zip_appended.jpg"].body


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("empty.jpg", 415),
        ("text.jpg", 415),
        ("html.png", 415),
        ("truncated.jpg", 422),
        ("truncated.png", 422),
        ("svg.jpg", 415),
        ("matrix.jpg", 415),
        ("pdf.jpg", 415),
    ],
)
def test_a_bad_file_gets_the_right_status(hostile, name, status):
    answer = hostile.ask(f"/img/w_200/{name}")

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_without_the_extra_a_heic_is_refused_and_the_error_names_the_extra(tmp_path: Path) -> None:
    """In a Python without the extra, for server and workers."""
    photos, python = tmp_path / "photos", tmp_path / "python"
    photos.mkdir()
    python.mkdir()
    (python / "sitecustomize.py").write_text("import sys\nsys.modules['_pi_heif'] = None\n")
    (photos / "phone.heic").write_bytes(heic(Image.new("RGB", (90, 60))))
    with serving(photos, variables={"PYTHONPATH": str(python)}, workers_count=1) as server:
        answer = server.ask("/img/w_40/phone.heic")

        assert answer.status == 415
        assert answer.json()["detail"] == "heic is read only with the extra: pip install 'imgserver[heic]'"
        assert "heic" not in server.image_health()["codecs"]["read"]
        assert server.ask("/").body.count(b"phone.heic") == 0


BOMBS = {name: body for name, body, _ in decompression_bombs.refused()}
PROMPT_SECONDS = 0.2
RSS_BYTES = 128 << 20
# The best of several tries, because other programs use the machine. Each try is another file, so that no refusal is
# cached.
TRIES = 3


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Iterator[ServerProcess]:
    """A server with one worker and no other requests."""
    root = tmp_path_factory.mktemp("bombs")
    for number, body in enumerate(BOMBS.values()):
        for attempt in range(TRIES):
            (root / f"bomb_{number}_{attempt}").write_bytes(body)
    (root / "large.png").write_bytes(decompression_bombs.interlaced_png(7_000))
    (root / "text.png").write_bytes(decompression_bombs.text_png())
    shutil.copy(SAMPLES / "cat.png", root)
    with serving(root, workers_count=1, disk_limit_bytes=0) as running:
        running.ask("/img/w_100/cat.png")
        yield running


def peak_rss(server: ServerProcess) -> int:
    """The highest peak memory of its workers."""
    lines = [Path(f"/proc/{worker.pid}/status").read_text() for worker in server.workers()]
    return max(int(line.split()[1]) << 10 for text in lines for line in text.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_refused_immediately_and_cheaply(quiet: ServerProcess, name: str) -> None:
    number, before, pids = list(BOMBS).index(name), peak_rss(quiet), {worker.pid for worker in quiet.workers()}

    answers = [quiet.ask(f"/img/w_200/bomb_{number}_{attempt}") for attempt in range(TRIES)]

    assert [answer.status for answer in answers] == [422] * TRIES
    assert min(answer.seconds for answer in answers) < PROMPT_SECONDS
    assert peak_rss(quiet) - before < RSS_BYTES
    assert {worker.pid for worker in quiet.workers()} == pids


def test_the_largest_allowed_image_is_shown_and_its_memory_is_freed(quiet: ServerProcess) -> None:
    """7,000 × 7,000, interlaced: the decoder must hold all of it."""
    answer = quiet.ask("/img/w_200/large.png")

    assert answer.status == 200
    assert peak_rss(quiet) < 512 << 20
    wait_until(lambda: all(one.memory_info().rss < 300 << 20 for one in quiet.workers()), "memory is given back")


def test_sixty_megabytes_of_text_are_not_in_the_answer(quiet: ServerProcess) -> None:
    for options in ("w_1", "w_1,fl_keep_metadata"):
        answer = quiet.ask(f"/img/{options}/text.png")

        assert answer.status == 200
        assert len(answer.body) < 1000


def test_an_endless_svg_filter_is_killed_at_the_deadline_and_the_next_request_is_served(tmp_path: Path) -> None:
    (tmp_path / "filter.svg").write_bytes(decompression_bombs.SVG_FILTER)
    (tmp_path / "huge.svg").write_bytes(decompression_bombs.SVG_HUGE)
    with serving(tmp_path, workers_count=1, limits_svg=True, queue_deadline_seconds=2) as server:
        answer = server.ask("/img/f_png/filter.svg")
        restarts = server.image_health()["workers"]["restarts"]

        assert answer.status == 504
        assert answer.seconds < 5
        assert restarts["timeout"] == 1
        assert server.ask("/img/w_100,f_png/huge.svg").status == 200


def test_what_no_worker_can_read_is_refused_while_all_workers_are_stopped(tmp_path: Path) -> None:
    """In the server process, from the first bytes: it neither waits for a worker nor takes one from others."""
    (tmp_path / "a.jpg").write_bytes(decompression_bombs.STRANGERS["pdf"])
    (tmp_path / "b.png").write_bytes(b"<html><body>Not found</body></html>")
    (tmp_path / "c.webp").write_bytes(b"")
    with serving(tmp_path, workers_count=1) as server:
        for worker in server.workers():
            worker.suspend()
        answers = [server.ask(f"/img/w_9/{name}") for name in ("a.jpg", "b.png", "c.webp")]
        for worker in server.workers():
            worker.resume()

        assert [answer.status for answer in answers] == [415] * 3
        assert max(answer.seconds for answer in answers) < 1
        assert "a PDF document" in answers[0].json()["detail"]
        assert server.metric("imgserver_images_total", input="unknown", output="jpg", result="refused") == 3
