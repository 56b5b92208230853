"""Hostile and odd files through the real server: refused by name before anything is decoded, and no worker dies."""

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import bombs
from tests.serving import SAMPLES, ServerProcess, serving

GOOD = {200, 400, 415, 422}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    for number, (name, data, _) in enumerate(bombs.refused()):
        (root / f"bomb_{number}_{name}".replace(" ", "_").replace("/", "_")).write_bytes(data)
    (root / "interlaced.png").write_bytes(bombs.interlaced_png(7_000))
    (root / "text_chunk.png").write_bytes(bombs.text_png())
    jpg, png = (SAMPLES / "dogs.jpg").read_bytes(), (SAMPLES / "cat.png").read_bytes()
    odd = {
        "empty.jpg": b"",
        "text.jpg": b"This is no picture.\n" * 50,
        "html.png": b"<!doctype html><script>alert(1)</script>",
        "truncated.jpg": jpg[: len(jpg) // 2],
        "truncated.png": png[: len(png) // 2],
        "zip_behind.jpg": jpg + b"PK\x03\x04 payload",
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

    assert {target: answer.status for target, answer in answers.items() if answer.status not in GOOD} == {}
    assert sum(facts["restarts"].values()) - facts["restarts"]["rss"] - facts["restarts"]["recycle"] == 0
    refused = [answer for answer in answers.values() if answer.status != 200]
    assert all(str(folder) not in answer.body.decode() for answer in refused)
    assert b"payload" not in answers["/img/w_200/zip_behind.jpg"].body


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("empty.jpg", 422),
        ("text.jpg", 415),
        ("html.png", 415),
        ("truncated.jpg", 422),
        ("truncated.png", 422),
        ("svg.jpg", 415),
        ("matrix.jpg", 415),
        ("pdf.jpg", 415),
    ],
)
def test_a_bad_file_is_told_as_what_it_is(hostile, name, status):
    answer = hostile.ask(f"/img/w_200/{name}")

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
