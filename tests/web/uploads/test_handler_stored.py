"""Uploads that are kept, and the settings of uploads, in a server of this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from imgserver.errors import ServerFault
from imgserver.rendering.upload_admission import UploadSettings
from imgserver.security.api_keys import ApiKeySettings, digest_of, new_key
from imgserver.settings.loader import load
from imgserver.settings.schema import Settings
from imgserver.web.app import make_app
from tests.multipart_forms import CONTENT_TYPE, form, picture
from tests.multipart_forms import field as form_field
from tests.running_server import SAMPLES

PATH = "/api/image/optimize"
PHOTO = (SAMPLES / "dogs.jpg").read_bytes()
KEY = new_key("ci")
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


def settings(root: Path, *, writable: bool = True, **uploads: object) -> Settings:
    return replace(
        load(None, {}, {"source.root": root, "source.writable": writable, "workers.count": 1}).settings,
        uploads=UploadSettings(**uploads),
        api_keys={"ci": ApiKeySettings("upload", digest_of(KEY))},
    )


@asynccontextmanager
async def client(wanted: Settings) -> AsyncIterator[TestClient]:
    app = make_app(wanted, log_stream=BytesIO())
    async with TestClient(TestServer(app)) as one:
        yield one


@pytest.fixture
async def shop(tmp_path, monkeypatch) -> AsyncIterator[TestClient]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    async with client(settings(tmp_path / "photos", store="photos", access="open")) as one:
        yield one


def post(client: TestClient, query: str, *, headers: dict[str, str] | None = None, body: bytes = PHOTO):
    fields = {"Content-Type": "image/jpeg", **AUTHORIZED, **(headers or {})}
    return client.post(f"{PATH}?{query}", data=BytesIO(body), headers=fields)


async def test_a_result_may_be_kept_under_a_name_and_asked_for_by_its_url(shop):
    answer = await post(shop, "w=200&store=team/my%20dogs.webp")
    assert answer.status == 201, await answer.text()
    kept = await shop.get(answer.headers["Location"])

    assert answer.status == 201
    assert answer.headers["Location"] == "/img/team/my%20dogs.webp"
    assert answer.headers["Content-Type"] == "image/webp"
    assert kept.status == 200
    assert kept.headers["Content-Type"] == "image/webp"


async def test_json_tells_the_url(shop):
    answer = await post(shop, "w=200&store=a.jpg", headers={"Accept": "application/json"})

    assert (answer.status, (await answer.json())["url"]) == (201, "/img/a.jpg")


async def test_a_name_is_taken_once_unless_it_is_to_be_replaced(shop):
    wishes = ("w=20&store=a.jpg", "w=30&store=a.jpg", "w=40&store=a.jpg&replace=1")

    statuses = [(await post(shop, wish)).status for wish in wishes]

    assert statuses == [201, 409, 201]


async def test_what_is_stored_is_answered_from_then_on(shop):
    """Also to those who have just asked for what was there before, or for nothing."""
    found = []
    for wish in ("w=20", "w=30&replace=1"):
        await shop.get("/img/f_info/a.jpg")
        await post(shop, f"{wish}&store=a.jpg")
        found.append((await (await shop.get("/img/f_info/a.jpg")).json())["original"]["width"])

    assert found == [20, 30]


@pytest.mark.parametrize("name", ["a.jpg/b.jpg", "a" * 300 + ".jpg"])
async def test_a_name_that_nothing_can_have_is_told_as_such(shop, name):
    await post(shop, "w=20&store=a.jpg")

    answer = await post(shop, f"w=20&store={name}")

    assert (answer.status, (await answer.json())["argument"]) == (400, "store")


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/a.jpg", "a//b.jpg", "./a.jpg", ".hidden.jpg", "x/.y/a.jpg", "a\\b.jpg", "a%00.jpg"]
)
async def test_a_name_stays_inside(shop, name):
    answer = await post(shop, f"store={name}")

    assert answer.status == 400


async def test_who_writes_needs_a_key_wherever_uploads_are_open(shop):
    answer = await shop.post(f"{PATH}?store=a.jpg", data=PHOTO, headers={"Content-Type": "image/jpeg"})
    by_field = await shop.post(
        PATH, data=form(form_field("store", "a.jpg"), picture(PHOTO)), headers={"Content-Type": CONTENT_TYPE}
    )

    assert (answer.status, by_field.status) == (401, 401)


async def test_several_pictures_have_not_one_name(shop):
    body = form(picture(PHOTO), picture(PHOTO))

    answer = await post(shop, "store=a.jpg", headers={"Content-Type": CONTENT_TYPE}, body=body)

    assert answer.status == 400


async def test_a_source_that_cannot_be_written_is_told_at_the_start(tmp_path):
    with pytest.raises(ServerFault, match=r"uploads.store: nosuch is not a source"):
        make_app(settings(tmp_path, store="nosuch"), log_stream=BytesIO())
    with pytest.raises(ServerFault, match=r"uploads.store: photos is not writable"):
        make_app(settings(tmp_path, writable=False, store="photos"), log_stream=BytesIO())
    with pytest.raises(ServerFault, match=r"uploads.temp_path"):
        make_app(settings(tmp_path, temp_path=tmp_path / "nosuch"), log_stream=BytesIO())


@pytest.mark.parametrize(
    ("uploads", "status"),
    [
        ({"max_body_bytes": len(PHOTO)}, 413),
        ({"max_body_bytes": len(PHOTO) + 1000}, 200),
        ({"max_parts": 1}, 413),
        ({"max_parts": 2}, 200),
    ],
    ids=str,
)
async def test_the_limits_are_those_of_the_settings(tmp_path, monkeypatch, uploads, status):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    body = form(form_field("w", "9"), picture(PHOTO))

    async with client(settings(SAMPLES, **uploads)) as one:
        answer = await post(one, "", headers={"Content-Type": CONTENT_TYPE}, body=body)

    assert answer.status == status


async def test_without_space_an_upload_is_put_off(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    async with client(settings(SAMPLES, max_temp_bytes=1 << 20)) as one:
        answer = await post(one, "w=9", body=(SAMPLES / "sunset.jpg").read_bytes())
        facts = await answer.json()

    assert answer.status == 503
    assert facts["reason"] == "space"
    assert int(answer.headers["Retry-After"]) >= 1
