"""Symlinks in a folder, with a real server: all names of an original share its renditions, and purges reach them."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.polling import wait_until
from tests.running_server import SAMPLES, Answer, ServerProcess, serving

KEY = "a key of sixteen characters"
NAMES = ("album/real.png", "link.png", "second.png", "linked/real.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    photos = tmp_path_factory.mktemp("photos")
    (photos / "album").mkdir()
    shutil.copy(SAMPLES / "cat.png", photos / "album" / "real.png")
    (photos / "link.png").symlink_to("album/real.png")
    (photos / "second.png").symlink_to("link.png")
    (photos / "linked").symlink_to("album")
    return photos


@pytest.fixture(scope="module")
def server(photos) -> Iterator[ServerProcess]:
    with serving(photos, workers_count=1, disk_limit_bytes=0, admin_key=KEY) as running:
        yield running


def renders(server: ServerProcess) -> int:
    return server.image_health()["workers"]["renders"]


def groups(answer: Answer) -> set[str]:
    return set(re.findall(r'"(\w+)"', answer.headers["Cache-Groups"]))


def test_all_names_of_an_original_share_one_rendition(server):
    before = renders(server)
    answers = [server.ask(f"/img/w_60/{name}") for name in NAMES * 2]

    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    assert renders(server) == before + 1
    # A purge of the original in a CDN reaches the responses of all its names.
    assert all(groups(answers[0]) <= groups(answer) for answer in answers)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("selector", ["source", "url", "prefix"])
def test_a_purge_by_any_name_reaches_the_rendition(server, name, selector):
    target = f"/img/w_61/{name}"
    for other in NAMES:
        server.ask(f"/img/w_61/{other}")
    before = renders(server)
    value = {"source": name, "url": target, "prefix": name.rpartition("/")[0]}[selector]
    purged = server.post("/api/admin/purge", {selector: value}, key=KEY)

    assert purged.status == 200
    assert [server.ask(f"/img/w_61/{other}").status for other in NAMES] == [200] * len(NAMES)
    assert renders(server) == before + 1


def test_a_symlink_that_leads_elsewhere_is_noticed_within_seconds(server, photos):
    (photos / "current.png").symlink_to("album/real.png")
    before = server.ask("/img/w_62/current.png").body
    (photos / "new.jpg").symlink_to(photos / "album" / "new.jpg")
    shutil.copy(SAMPLES / "dogs.jpg", photos / "album" / "new.jpg")
    (photos / "swap").symlink_to("album/new.jpg")
    (photos / "swap").rename(photos / "current.png")

    wait_until(lambda: server.ask("/img/w_62/current.png").body != before, "the other picture", seconds=3)
