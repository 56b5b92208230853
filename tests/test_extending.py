"""The examples of docs/extending.md: they keep their contracts, and a server serves with them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.running_server import ROOT, ServerProcess, environment, serving

PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL))
PLUGINS = [name for name in EXAMPLES if not name.startswith("test_")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples as modules."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, code in EXAMPLES.items():
        (folder / f"{name}.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    """A server with all examples, without the disk tier, whose memory tier stores nothing."""
    with serving(
        workers_count=1,
        server_plugins=",".join(PLUGINS),
        sources_squares_url="toy://",
        disk_limit_bytes=0,
        cache_memory_bytes=0,
        variables={"PYTHONPATH": str(folder)},
    ) as running:
        yield running


def test_the_page_names_its_examples_in_the_setting() -> None:
    plugins = re.search(r"^plugins = \[(.+)\]$", PAGE, re.MULTILINE)

    assert plugins is not None
    assert re.findall(r'"(\w+)"', plugins[1]) == PLUGINS


def test_the_examples_keep_their_contracts(folder: Path) -> None:
    imports = [option for name in PLUGINS for option in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "setup.cfg"), "--rootdir", str(folder), *imports]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(folder / "test_parts.py")],
        cwd=folder,
        env={**environment(), "PYTHONPATH": f"{folder}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout


def test_the_examples_are_typed(folder: Path) -> None:
    config = ["--config-file", str(ROOT / "setup.cfg")]
    command = [sys.executable, "-m", "mypy", *config, "--strict", *(str(folder / f"{name}.py") for name in EXAMPLES)]
    environ = {**environment(), "MYPYPATH": f"{folder}:{ROOT}", "MYPY_CACHE_DIR": str(folder / "cache")}
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


def test_a_server_serves_the_targets_of_a_dialect(server: ServerProcess) -> None:
    answer = server.ask("/thumb/64/cat.png", headers={"Accept": "image/webp"})

    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/webp")
    assert max(Image.open(BytesIO(answer.body)).size) == 64
    assert server.ask("/thumb/0/cat.png").status == 400
    assert server.ask("/thumb/64/absent.png").status == 404


def test_a_server_serves_the_originals_of_a_source(server: ServerProcess) -> None:
    answer = server.ask("/img/w_16,f_png/squares/64/ff0000.png")
    image = Image.open(BytesIO(answer.body))

    assert answer.status == 200
    assert (image.size, image.convert("RGB").getpixel((8, 8))) == ((16, 16), (255, 0, 0))
    assert server.ask("/img/w_16/squares/64/red.png").status == 404


def test_a_server_writes_the_format_of_an_encoder(server: ServerProcess) -> None:
    answer = server.ask("/img/w_32,f_ppm/cat.png")

    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/x-portable-pixmap")
    assert Image.open(BytesIO(answer.body)).size[0] == 32


def test_a_worker_knows_the_format_of_an_encoder(server: ServerProcess) -> None:
    assert "ppm" in server.image_health()["codecs"]["write"]


def test_the_error_for_an_unknown_format_names_that_of_an_encoder(server: ServerProcess) -> None:
    assert "ppm" in server.ask("/img/f_pp/cat.png").json()["detail"]


def test_the_commands_load_the_plugins(folder: Path) -> None:
    environ = {**environment(), "PYTHONPATH": f"{folder}:{ROOT}", "IMGSERVER_SERVER_PLUGINS": ",".join(PLUGINS)}
    command = [sys.executable, "-m", "imgserver", "doctor", "--json"]
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    checks = {check["name"]: check for check in json.loads(result.stdout)}

    assert (checks["codec ppm"]["ok"], checks["codec ppm"]["found"]) == (True, "writes")


def test_a_server_answers_from_a_cache_tier(server: ServerProcess) -> None:
    hits = server.metric("imgserver_cache_requests_total", tier="dict", result="hit")
    first, second = server.ask("/img/w_33/cat.png"), server.ask("/img/w_33/cat.png")

    assert first.body == second.body
    assert second.cache_status == "imgserver; hit"
    assert server.metric("imgserver_cache_requests_total", tier="dict", result="hit") == hits + 1
