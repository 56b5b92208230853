"""The commands with remote sources: a scripted web server on loopback, and a real S3 server."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from imgserver.cli import main
from tests.ports import free_port
from tests.running_server import SAMPLES
from tests.s3_server import KEY, SECRET, running
from tests.sources.origin_server import OriginServer, body, stalled, status
from tests.threaded_origin import photo, threaded_origin

PHOTO = photo()


@pytest.fixture
def origin() -> Iterator[OriginServer]:
    with threaded_origin() as one:
        one.answers["/a/cat.jpg"] = body(PHOTO)
        yield one


@pytest.fixture
def shop(origin, tmp_path) -> dict[str, str]:
    """Settings with the origin as the source `shop`, and a folder as the default source."""
    return {
        "XDG_CACHE_HOME": str(tmp_path),
        "IMGSERVER_SOURCE_ROOT": str(SAMPLES),
        "IMGSERVER_SOURCES_SHOP_URL": f"http://127.0.0.1:{origin.port}/",
        "IMGSERVER_SOURCES_SHOP_ALLOWED_NETWORKS": "127.0.0.0/8",
        "IMGSERVER_FETCH_TOTAL_TIMEOUT_SECONDS": "1",
    }


def run(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


def check(result: Result, name: str) -> dict[str, object]:
    return next(one for one in json.loads(result.stdout) if one["name"] == name)


def test_get_renders_a_remote_original(shop, tmp_path):
    result = run(shop, "get", "/img/w_60/shop/a/cat.jpg", "-o", str(tmp_path / "cat.png"))

    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "cat.png") as made:
        assert made.size == (60, 40)


def test_get_reports_a_failure_in_one_sentence(shop, origin, tmp_path):
    origin.answers |= {"/busy.jpg": status(500), "/slow.jpg": stalled()}
    sentences = [
        run(shop, "get", f"/img/w_60/shop/{name}.jpg", "-o", str(tmp_path / "out.png")).stderr
        for name in ("nosuch", "busy", "slow")
    ]

    assert sentences[0] == f"Error: nosuch.jpg: no such original in http://127.0.0.1:{origin.port}/\n"
    assert sentences[1] == "Error: the original's server answered 500\n"
    assert "took too long" in sentences[2]
    assert not (tmp_path / "out.png").exists()


def test_root_of_get_replaces_the_source_of_the_settings(origin, shop, tmp_path):
    """A URL replaces a folder, and a folder a URL."""
    networks = {"IMGSERVER_SOURCE_ALLOWED_NETWORKS": "127.0.0.0/8"}
    address = f"http://127.0.0.1:{origin.port}/a/"
    far = run(shop | networks, "get", "/img/w_60/cat.jpg", "--root", address, "-o", str(tmp_path / "far.png"))
    elsewhere = {"XDG_CACHE_HOME": str(tmp_path), "IMGSERVER_SOURCE_URL": "https://elsewhere.invalid/"}
    near = run(elsewhere, "get", "/img/w_60/cat.png", "--root", str(SAMPLES), "-o", str(tmp_path / "near.png"))

    assert (far.exit_code, near.exit_code) == (0, 0), far.output + near.output


def test_url_builds_urls_of_remote_sources_and_whole_urls(shop):
    assert run(shop, "url", "shop/a/cat.jpg", "--w", "60").stdout == "/img/w_60/shop/a/cat.jpg\n"
    listed = shop | {"IMGSERVER_REMOTE_ALLOWED_URLS": "https://cdn.example.com/"}
    assert run(listed, "url", "https://cdn.example.com/a.jpg?id=5", "--w", "60").stdout == (
        "/img/w_60/b64/aHR0cHM6Ly9jZG4uZXhhbXBsZS5jb20vYS5qcGc_aWQ9NQ\n"
    )
    signing = {"IMGSERVER_REMOTE_ENABLED": "true", "IMGSERVER_SIGNING_KEYS": "00" * 32}
    assert run(shop | signing, "url", "https://cdn.example.com/a.jpg", "--sign").stdout.startswith("/img/s--")


def test_doctor_checks_each_source(shop, origin):
    sound = run(shop, "doctor", "--json")
    origin.answers.clear()
    shop["IMGSERVER_SOURCES_SHOP_URL"] = f"http://127.0.0.1:{free_port()}/"
    away = run(shop, "doctor", "--json")
    del shop["IMGSERVER_SOURCES_SHOP_ALLOWED_NETWORKS"]
    inside = run(shop, "doctor", "--json")

    assert check(sound, "source folder")["ok"]
    assert check(sound, "source shop")["ok"]
    assert "cannot be reached" in check(away, "source shop")["found"]
    assert "its IP address is loopback" in check(inside, "source shop")["found"]
    assert [one.exit_code for one in (sound, away, inside)] == [0, 1, 1]


def test_doctor_checks_the_credentials_of_a_store(tmp_path):
    async def found(secret: str) -> dict[str, object]:
        async with running(tmp_path / "buckets") as store:
            environ = {
                "IMGSERVER_SOURCE_URL": "s3://bucket/photos",
                "IMGSERVER_SOURCE_ENDPOINT": store.endpoint,
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": secret,
            }
            return check(await asyncio.to_thread(run, environ, "doctor", "--json"), "source")

    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    shutil.copy(SAMPLES / "cat.png", tmp_path / "buckets" / "bucket")

    assert asyncio.run(found(SECRET))["ok"]
    wrong = asyncio.run(found("another"))
    assert "SignatureDoesNotMatch" in wrong["found"]
    assert "another" not in json.dumps(wrong)


def test_serve_names_the_missing_extra_of_a_store(tmp_path, monkeypatch):
    """Without the extra [s3], obstore cannot be imported."""
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    monkeypatch.setitem(__import__("sys").modules, "obstore.exceptions", None)

    result = run({"XDG_CACHE_HOME": str(tmp_path)}, "serve", "s3://bucket/photos", "--port", "0")

    assert result.exit_code == 1
    assert result.stderr == ("Error: source photos: s3://bucket/photos needs obstore: pip install 'imgserver[s3]'\n")


def test_serve_refuses_an_unknown_scheme(tmp_path: Path):
    environ = {"XDG_CACHE_HOME": str(tmp_path), "IMGSERVER_SOURCE_ROOT": str(SAMPLES)}

    result = run(environ, "serve", "ftp://example.com/", "--port", "0")

    assert result.exit_code == 1
    assert (
        result.stderr == "Error: source: url: must begin with one of file://, http://, https://, s3://, gs://, az://\n"
    )


def test_inspect_describes_an_image_at_a_url(origin):
    address = f"http://127.0.0.1:{origin.port}/a/cat.jpg"
    environ = {
        "IMGSERVER_REMOTE_ALLOWED_NETWORKS": "127.0.0.0/8",
        "IMGSERVER_REMOTE_ALLOWED_URLS": address.removesuffix("cat.jpg"),
    }

    result = run(environ, "inspect", "--json", address)
    inside = run(environ | {"IMGSERVER_REMOTE_ALLOWED_NETWORKS": ""}, "inspect", address)
    absent = run(environ, "inspect", address.replace("cat", "dog"))

    told = json.loads(result.stdout)
    assert (told["file"], told["format"], told["width"], told["bytes"]) == (address, "jpg", 240, len(PHOTO))
    assert [(one.exit_code, one.stderr) for one in (inside, absent)] == [
        (1, f"Error: {address}: There is no such image\n"),
        (1, f"Error: {address.replace('cat', 'dog')}: There is no such image\n"),
    ]
