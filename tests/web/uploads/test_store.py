"""Uploads that are stored in a folder, and the limits that the settings put on uploads."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest

from imgserver.errors import ServerFault
from imgserver.rendering.upload_admission import UploadSettings
from imgserver.security.api_keys import digest_of, new_key
from imgserver.settings.loader import load
from imgserver.settings.schema import Settings
from imgserver.web.app import make_app
from tests.multipart_forms import CONTENT_TYPE, field, form, picture
from tests.running_server import SAMPLES, Answer, ServerProcess, serving

PATH = "/api/image/optimize"
PHOTO = (SAMPLES / "dogs.jpg").read_bytes()
KEY = new_key("ci")
FORM = form(field("w", "9"), picture(PHOTO))


@dataclass(frozen=True, slots=True)
class UploadServer:
    """A server that stores uploads in `folder`. Every client may upload; storing needs the key."""

    server: ServerProcess
    folder: Path

    def get(self, target: str) -> Answer:
        return self.server.ask(target)

    def post(
        self, query: str, body: bytes = PHOTO, *, content_type: str = "image/jpeg", key: str = KEY, **headers: str
    ) -> Answer:
        headers = {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return self.server.ask(f"{PATH}?{query}" if query else PATH, "POST", headers, body)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory) -> Iterator[UploadServer]:
    folder = tmp_path_factory.mktemp("uploads") / "photos"
    folder.mkdir()
    shutil.copy(SAMPLES / "cat.png", folder)
    settings = {
        "source_writable": True,
        "uploads_store": "photos",
        "uploads_access": "open",
        "uploads_max_body_bytes": len(FORM),
        "uploads_max_parts": 2,
        "api_keys_ci_scopes": "upload",
        "api_keys_ci_digest": digest_of(KEY),
    }
    with serving(folder, workers_count=1, disk_limit_bytes=0, **settings) as running:
        yield UploadServer(running, folder)


def test_a_result_is_stored_under_a_path_and_served_at_its_url(uploads):
    answer = uploads.post("w=200&store=team/my%20dogs.webp")
    stored = uploads.get(answer.headers["Location"])

    assert answer.status == 201
    assert answer.headers["Location"] == "/img/team/my%20dogs.webp"
    assert answer.headers["Content-Type"] == "image/webp"
    assert stored.status == 200
    assert stored.headers["Content-Type"] == "image/webp"


def test_json_contains_the_url(uploads):
    answer = uploads.post("w=200&store=json.jpg", Accept="application/json")

    assert (answer.status, answer.json()["url"]) == (201, "/img/json.jpg")


def test_a_stored_file_is_replaced_only_on_request(uploads):
    queries = ("w=20&store=twice.jpg", "w=30&store=twice.jpg", "w=40&store=twice.jpg&replace=1")

    assert [uploads.post(query).status for query in queries] == [201, 409, 201]


def test_a_stored_file_is_served_immediately(uploads):
    """Also to a client that has just requested the file before, or a missing file."""
    widths = []
    for query in ("w=20", "w=30&replace=1"):
        uploads.get("/img/f_info/fresh.jpg")
        uploads.post(f"{query}&store=fresh.jpg")
        widths.append(uploads.get("/img/f_info/fresh.jpg").json()["original"]["width"])

    assert widths == [20, 30]


def test_storing_changes_no_other_file_of_the_folder(uploads):
    before = {path: path.stat() for path in uploads.folder.rglob("*") if path.is_file()}
    uploads.post("w=20&store=other/one.jpg")
    after = {path: path.stat() for path in uploads.folder.rglob("*") if path.is_file()}

    assert after.keys() - before.keys() == {uploads.folder / "other" / "one.jpg"}
    assert [(one.st_mtime_ns, one.st_ino) for one in before.values()] == [
        (after[path].st_mtime_ns, after[path].st_ino) for path in before
    ]


@pytest.mark.parametrize("path", ["file.jpg/b.jpg", "a" * 300 + ".jpg"])
def test_a_path_that_cannot_be_created_is_a_bad_request(uploads, path):
    uploads.post("w=20&store=file.jpg&replace=1")
    answer = uploads.post(f"w=20&store={path}")

    assert (answer.status, answer.json()["argument"]) == (400, "store")


@pytest.mark.parametrize(
    "path", ["../a.jpg", "/a.jpg", "a//b.jpg", "./a.jpg", ".hidden.jpg", "x/.y/a.jpg", "a\\b.jpg", "a%00.jpg"]
)
def test_a_path_cannot_leave_the_folder(uploads, path):
    assert uploads.post(f"store={path}").status == 400


def test_storing_needs_a_key_even_where_uploads_are_open(uploads):
    by_query = uploads.post("store=a.jpg", key="")
    by_field = uploads.post("", form(field("store", "a.jpg"), picture(b"x")), content_type=CONTENT_TYPE, key="")

    assert (by_query.status, by_field.status) == (401, 401)


def test_several_images_cannot_have_one_path(uploads):
    body = form(picture(PHOTO[:100]), picture(PHOTO[:100]))

    assert uploads.post("store=a.jpg", body, content_type=CONTENT_TYPE).status == 400


def test_a_body_at_the_limit_is_accepted_and_a_longer_one_is_refused(uploads):
    longer = form(field("w", "9"), picture(PHOTO, "photo-2.jpg"))
    statuses = [uploads.post("", body, content_type=CONTENT_TYPE).status for body in (FORM, longer)]

    assert statuses == [200, 413]


def test_a_form_with_too_many_parts_is_refused(uploads):
    body = form(field("w", "9"), field("h", "9"), picture(PHOTO[:100]))

    assert uploads.post("", body, content_type=CONTENT_TYPE).status == 413


def settings(root: Path, *, writable: bool = True, **uploads: object) -> Settings:
    loaded = load(None, {}, {"source.root": root, "source.writable": writable, "workers.count": 1}).settings
    return replace(loaded, uploads=UploadSettings(**uploads))


@pytest.mark.parametrize(
    ("writable", "uploads", "message"),
    [
        (True, {"store": "nosuch"}, r"uploads.store: nosuch is not a source"),
        (False, {"store": "photos"}, r"uploads.store: photos is not writable"),
        (True, {"temp_path": Path("/nosuch")}, r"/nosuch is not a folder \(uploads.temp_path\)"),
    ],
)
def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path, writable, uploads, message):
    with pytest.raises(ServerFault, match=message):
        make_app(settings(tmp_path, writable=writable, **uploads), log_stream=BytesIO())
