"""POST /api/image/optimize of a real server."""

import base64
import shutil
import socket
import subprocess
from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image

from imgserver.rendering.upload_admission import UploadSettings
from imgserver.security.api_keys import digest_of, new_key
from imgserver.settings.schema import ServerSettings, Settings
from imgserver.web.app import make_app
from tests.heic_files import heic
from tests.multipart_forms import CONTENT_TYPE, field, form, picture
from tests.polling import eventually, wait_until
from tests.running_server import SAMPLES, Answer, ServerProcess, serving

PATH = "/api/image/optimize"
DOGS = (SAMPLES / "dogs.jpg").read_bytes()
JSON = {"Accept": "application/json"}


def upload(server: ServerProcess, *parts: tuple[bytes, bytes], query: str = "", **headers: str) -> Answer:
    body = form(*(parts or (picture(PHOTO),)))
    return post(server, body, query=query, content_type=CONTENT_TYPE, **headers)


def post(server: ServerProcess, body: bytes, *, query: str = "", content_type: str = "image/jpeg", **headers: str):
    fields = {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}
    return server.ask(f"{PATH}?{query}" if query else PATH, "POST", fields, body)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(body: bytes) -> Image.Image:
    image = Image.open(BytesIO(body))
    image.load()
    return image


# A quarter of the sides of the sample: a fast render.
PHOTO = encoded(decoded(DOGS).resize((514, 772)), "JPEG", quality=95)


def test_an_image_is_returned_smaller_with_its_figures(server):
    answer = upload(server)

    assert answer.status == 200
    assert len(answer.body) < len(PHOTO)
    assert decoded(answer.body).size == (514, 772)
    shown = {name: answer.headers[name] for name in answer.headers if name.startswith("X-") and "Id" not in name}
    assert shown == {
        "X-Original-Bytes": str(len(PHOTO)),
        "X-Result-Bytes": str(len(answer.body)),
        "X-Compression-Ratio": f"{len(answer.body) / len(PHOTO):.3f}",
        "X-Image-Width": "514",
        "X-Image-Height": "772",
        "X-Image-Format": "jpg",
        "X-Optimized": "encoded",
        "X-Content-Type-Options": "nosniff",
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/whatever", "application/octet-stream"])
def test_the_body_may_be_the_image_itself(server, content_type):
    assert post(server, PHOTO, content_type=content_type, query="w=90").headers["X-Image-Width"] == "90"


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_a_body_of_another_type_is_refused(server, content_type):
    answer = post(server, PHOTO, content_type=content_type)

    assert answer.status == 415
    assert "multipart/form-data" in answer.json()["detail"]


def test_options_are_the_options_of_urls(server):
    by_url = server.ask("/img/w_200,h_100,c_fill,f_png/e_grayscale/dogs.jpg").body

    assert upload(server, picture(DOGS), query="options=w_200,h_100,c_fill,f_png/e_grayscale").body == by_url


def test_options_may_be_fields_of_the_form(server):
    answer = upload(server, field("w", "120"), picture(PHOTO), field("f", "webp"))

    assert decoded(answer.body).size == (120, 180)
    assert answer.headers["Content-Type"] == "image/webp"


def test_an_upload_that_would_lose_frames_is_refused_unless_one_is_named(server):
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "lime", "blue")]
    body = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=80)

    refused = upload(server, picture(body))
    taken = upload(server, picture(body), query="fl=still")

    assert (refused.status, refused.json()["type"]) == (422, "urn:imgserver:error:frames-lost")
    assert "3 frames" in refused.json()["detail"]
    assert decoded(taken.body).convert("RGB").getpixel((9, 9)) == (255, 0, 0)


def test_a_wrong_option_gets_the_same_problem_as_in_a_url(server):
    by_url, answer = server.ask("/img/q_101/dogs.jpg").json(), upload(server, query="q=101")

    assert answer.status == 400
    for member in ("type", "detail", "argument", "value", "allowed"):
        assert answer.json()[member] == by_url[member]
    assert answer.headers["Cache-Control"] == "no-store"


def test_accept_decides_the_format_of_auto(server):
    assert upload(server, query="f=auto&w=50", Accept="image/webp").headers["X-Image-Format"] == "webp"
    assert upload(server, query="f=auto&w=50").headers["X-Image-Format"] == "jpg"


def test_json_contains_the_same_figures(server):
    answer = upload(server, query="w=400&f=webp", **JSON)

    facts = answer.json()
    assert facts == {
        "name": "photo.jpg",
        "original_bytes": len(PHOTO),
        "result_bytes": facts["result_bytes"],
        "ratio": round(facts["result_bytes"] / len(PHOTO), 3),
        "width": 400,
        "height": 601,
        "format": "webp",
        "media_type": "image/webp",
        "optimized": "encoded",
    }


def test_json_may_contain_the_result(server):
    facts = upload(server, query="w=64&data=base64").json()

    assert decoded(base64.b64decode(facts["data"])).size == (64, 96)


def test_each_of_several_images_has_its_result_or_its_error(server):
    cat = (SAMPLES / "cat.png").read_bytes()

    answer = upload(
        server, picture(PHOTO), picture(b"no picture", "../../x\x00.jpg"), picture(cat, "cat.png"), query="w=50"
    )

    facts = answer.json()
    assert answer.status == 200
    assert [one["name"] for one in facts["files"]] == ["photo.jpg", "x_.jpg", "cat.png"]
    assert [one.get("format") for one in facts["files"]] == ["jpg", None, "png"]
    assert facts["files"][1]["error"]["status"] == 415
    assert facts["original_bytes"] == len(PHOTO) + len(cat)
    assert facts["result_bytes"] == sum(one.get("result_bytes", 0) for one in facts["files"])


def test_the_error_of_a_single_image_is_the_status_of_the_response(server):
    assert upload(server, picture(b"no picture")).status == 415
    assert upload(server, picture(PHOTO[:9000])).status == 422
    assert upload(server, picture(b"")).status == 415


def test_an_image_that_would_become_larger_is_only_stripped(server):
    small = decoded(PHOTO).resize((400, 600))
    exif = Image.Exif()
    exif[0x010E] = "planted-words"
    data = encoded(small, "JPEG", quality=15, exif=exif, comment=b"planted-words")

    answer = upload(server, picture(data))

    assert answer.headers["X-Optimized"] == "original"
    assert len(answer.body) < len(data)
    assert b"planted-words" not in answer.body
    assert decoded(answer.body).tobytes() == decoded(data).tobytes()


def test_a_requested_format_is_used_although_the_result_is_larger(server):
    data = encoded(decoded(PHOTO).resize((400, 600)), "JPEG", quality=15)

    answer = upload(server, picture(data), query="f=png")

    assert answer.headers["X-Optimized"] == "larger;reason=format"
    assert answer.headers["X-Image-Format"] == "png"
    assert float(answer.headers["X-Compression-Ratio"]) > 1


def test_a_heic_photograph_becomes_a_jpeg(server):
    answer = upload(server, picture(heic(decoded(PHOTO).resize((400, 600))), "IMG_0001.HEIC"), query="w=200")

    assert answer.headers["X-Image-Format"] == "jpg"
    assert decoded(answer.body).size == (200, 300)


def test_asynchronous_uploads_are_refused(server):
    answer = upload(server, query="async=1")

    assert answer.status == 501


def test_storing_is_refused_without_a_source_for_uploads(server):
    assert upload(server, query="store=a.jpg").json()["argument"] == "store"


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
def test_any_other_method_than_post_is_refused(server, method):
    answer = server.ask(PATH, method)

    assert answer.status == 405
    assert answer.headers["Allow"] == "POST"


def test_uploads_are_counted_and_logged(server):
    before = server.metric("imgserver_uploads_total", result="ok")
    bytes_in = server.metric("imgserver_upload_bytes_total", direction="in")

    answer = upload(server, query="w=77", **{"X-Request-Id": "an-upload"})

    assert server.metric("imgserver_uploads_total", result="ok") == before + 1
    assert server.metric("imgserver_upload_bytes_total", direction="in") == bytes_in + len(PHOTO)
    assert server.metric("imgserver_http_requests_total", route="optimize", method="POST", status="200") >= 1
    wait_until(lambda: any(one.get("request_id") == "an-upload" for one in server.events()), "the event is written")
    (event,) = (one for one in server.events() if one.get("request_id") == "an-upload")
    assert event["event"] == "request"
    assert event["route"] == "optimize"
    assert (event["original_bytes"], event["result_bytes"]) == (len(PHOTO), len(answer.body))


def test_curl_uploads_a_file(server, tmp_path):
    curl = shutil.which("curl")
    assert curl, "curl is a part of every system that runs these tests"
    out = tmp_path / "out.jpg"
    url = f"http://127.0.0.1:{server.port}{PATH}"

    shown = subprocess.run(
        [curl, "-s", "-F", f"image=@{SAMPLES / 'dogs.jpg'}", "-o", out, "-w", "%{http_code}", url],
        capture_output=True,
        check=True,
    ).stdout

    assert shown == b"200"
    assert decoded(out.read_bytes()).format == "JPEG"


# A server with API keys

KEYS = {name: new_key(name) for name in ("ci", "ops", "scraper")}
SCOPES = {"ci": "upload", "ops": "purge", "scraper": "metrics"}


@pytest.fixture(scope="module")
def locked() -> Iterator[ServerProcess]:
    settings = {
        name: value
        for key_id, key in KEYS.items()
        for name, value in {
            f"api_keys_{key_id}_scopes": SCOPES[key_id],
            f"api_keys_{key_id}_digest": digest_of(key),
        }.items()
    }
    with serving(
        workers_count=1,
        disk_limit_bytes=0,
        uploads_allow_origin="https://app.example",
        uploads_max_receiving=1,
        uploads_max_waiting=0,
        uploads_max_temp_bytes=1 << 20,
        **settings,
    ) as running:
        yield running


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def test_a_key_is_needed_once_one_is_configured(locked):
    answer = upload(locked, query="w=50")

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert upload(locked, query="w=50", **bearer("ci")).status == 200


def test_a_key_without_the_scope_is_refused(locked):
    assert upload(locked, query="w=50", **bearer("ops")).status == 403
    assert locked.post("/api/admin/purge", {"all": True}, key=KEYS["ci"]).status == 403
    assert locked.post("/api/admin/purge", {"all": True}, key=KEYS["ops"]).status == 200


def test_the_log_contains_the_id_of_a_key_and_never_the_key(locked):
    upload(locked, query="w=51", **bearer("ci"))
    upload(locked, query="w=51", Authorization="Bearer ci.wrong-and-secret")

    wait_until(lambda: any(one.get("reason") == "unknown_key" for one in locked.events()), "the refusal is written")
    assert any(one.get("key") == "ci" for one in locked.events())
    text = locked.log.read_text()
    assert KEYS["ci"] not in text
    assert "wrong-and-secret" not in text
    assert '"event":"security.auth_failed"' in text


def test_a_key_in_the_url_is_ignored(locked):
    assert upload(locked, query=f"key={KEYS['scraper']}").status == 401


def test_a_key_in_the_url_is_not_in_the_log(locked):
    names = ("key", "api_key", "API-Key", "access_token", "X-Auth")
    for name in names:
        upload(locked, query=f"w=50&{name}={KEYS['scraper']}&q=7")

    def targets() -> list[str]:
        return [one["target"] for one in locked.events() if one.get("target", "").endswith("&q=7")]

    wait_until(lambda: len(targets()) == len(names), "all are written")
    assert targets() == [f"{PATH}?w=50&{name}=...&q=7" for name in names]
    assert KEYS["scraper"] not in locked.log.read_text()


def test_pages_of_the_allowed_origin_may_upload(locked):
    preflight = locked.ask(PATH, "OPTIONS", {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"})
    refused = upload(locked)

    assert preflight.status == 204
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    for answer in (preflight, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"


class WaitingClient:
    """A client that waits for 100 Continue before it sends its body."""

    def __init__(self, server: ServerProcess, length: int, **headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        fields = {
            "Host": "x",
            "Content-Type": "image/jpeg",
            "Content-Length": length,
            "Expect": "100-continue",
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.socket.sendall(f"POST {PATH}?w=50 HTTP/1.1\r\n{head}\r\n".encode())

    def __enter__(self) -> "WaitingClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def receive(self) -> bytes:
        return self.socket.recv(65536)


def test_100_continue_is_sent_after_the_key_and_the_place_are_granted(locked):
    length = len(PHOTO)
    with WaitingClient(locked, length, **bearer("ci")) as first:
        assert first.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        # The only place is taken, and no upload may wait.
        with WaitingClient(locked, length, **bearer("ci")) as second, WaitingClient(locked, length) as stranger:
            refused = second.receive()
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: " in refused
            assert stranger.receive().startswith(b"HTTP/1.1 401 ")

        first.socket.sendall(PHOTO)
        assert first.receive().startswith(b"HTTP/1.1 200 ")


def test_an_unknown_expectation_is_refused(locked):
    with WaitingClient(locked, 10, **bearer("ci"), Expect="miracles") as held:
        assert held.receive().startswith(b"HTTP/1.1 417 ")


def test_a_waiting_upload_delays_no_image_request(locked):
    """The place of an upload is not the slot of a render: a slow client does not delay others."""
    with WaitingClient(locked, len(PHOTO), **bearer("ci")) as held:
        held.receive()

        assert locked.ask("/img/w_33/cat.png").status == 200


def test_an_upload_is_shed_when_the_temporary_files_are_full(locked):
    answer = post(locked, (SAMPLES / "sunset.jpg").read_bytes(), query="w=9", **bearer("ci"))

    assert answer.status == 503
    assert answer.json()["reason"] == "space"
    assert int(answer.headers["Retry-After"]) >= 1


# Servers without API keys


def test_a_local_client_needs_no_key_but_a_client_behind_a_proxy_does(server):
    local = upload(server, query="w=50").status
    through_a_proxy = upload(server, query="w=50", **{"X-Forwarded-For": "192.0.2.1"}).status

    assert (local, through_a_proxy) == (200, 401)
    assert "uploads_open" not in weaknesses(server)


def weaknesses(server: ServerProcess) -> list[str]:
    return [event["reason"] for event in server.events() if event["event"] == "security.config_weak"]


async def test_open_uploads_of_a_public_server_are_audited_as_weak():
    log = BytesIO()
    make_app(Settings(server=ServerSettings(host="0.0.0.0"), uploads=UploadSettings(access="open")), log_stream=log)

    await eventually(lambda: b"uploads_open" in log.getvalue())


def test_there_is_no_route_for_uploads_when_they_are_off():
    app = make_app(Settings(uploads=UploadSettings(access="off")), log_stream=BytesIO())

    assert PATH not in {resource.canonical for resource in app.router.resources()}
