"""The server serves every URL that `imgserver url` builds with the settings of the server."""

import io
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from imgserver.cli import main
from tests.running_server import SAMPLES, ServerProcess, serving

SETTINGS = {
    "signing_keys": bytes(range(32)).hex(),
    "http_client_hints": "true",
    "presets_card": "w_60,h_40,c_fill",
}
# Names with a meaning in URLs, in the grammar, in srcset or in a shell.
NAMES = (
    "plain.png",
    "two words.png",
    "comma,and;semicolon.png",
    "hash#question?percent%25.png",
    "ümläut 北京.png",
    "plus+and&equals=.png",
    "quote'and\"quote.png",
    "w_1/options.png",
    "t_card/preset.png",
    "_/underscore.png",
    "b64/encoded.png",
    "text/words.png",
    "s--x--/signature.png",
    "photos/own name.png",
    "https:/colon.png",
    "exp_1/expired.png",
    "f_info",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / "cat.png", folder / name)
    return folder


@pytest.fixture(scope="module")
def server(root):
    with serving(root, workers_count=1, sources_shop_root=str(SAMPLES), **SETTINGS) as running:
        yield running


@pytest.fixture
def built(root, server, monkeypatch):
    """Builds URLs with the settings of the server."""
    environ = {f"IMGSERVER_{name.upper()}": value for name, value in SETTINGS.items()}
    environ |= {"IMGSERVER_SOURCE_ROOT": str(root), "IMGSERVER_SOURCES_SHOP_ROOT": str(SAMPLES)}

    def build(*arguments: str) -> list[str]:
        result = CliRunner().invoke(main, ["url", *arguments], env=environ)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.splitlines()

    return build


def size_of(server: ServerProcess, target: str) -> tuple[int, int]:
    answer = server.ask(target, headers={"Accept": "image/webp"})
    assert answer.status == 200, (target, answer.body)
    return Image.open(io.BytesIO(answer.body)).size


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "more", [(), ("--sign",), ("--expires", "1h"), ("--v", "auto")], ids=["", "signed", "exp", "v"]
)
def test_every_file_name_is_served(server, built, name, more):
    (target,) = built(name, "--w", "30", *more)

    assert size_of(server, target) == (30, 20)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["--w", "60"], (60, 40)),
        (["--w", "0.1"], (45, 30)),
        (["--w", "auto"], (451, 300)),
        (["--h", "40"], (60, 40)),
        (["--w", "50", "--h", "50", "--c", "fill", "--g", "auto"], (50, 50)),
        (["--w", "50", "--h", "50", "--c", "pad", "--option", "b_fff"], (50, 50)),
        (["--w", "60", "--h", "40", "--c", "fill", "--g", "north_east"], (60, 40)),
        (["--w", "40", "--h", "30", "--c", "fill", "--g", "xy", "-O", "x_0.7", "-O", "y_0.3"], (40, 30)),
        (["--w", "64", "--ar", "16:9"], (64, 36)),
        (["--w", "60", "--f", "auto"], (60, 40)),
        (["--w", "60", "--f", "webp", "--q", "50"], (60, 40)),
        (["--w", "60", "--f", "jpg", "--q", "auto"], (60, 40)),
        (["--w", "30", "--dpr", "2"], (60, 40)),
        (["--w", "30", "--dpr", "1.5", "--q", "80", "--f", "png"], (45, 30)),
        (["--option", "t_card"], (60, 40)),
        (["--w", "60", "-O", "e_blur:4", "-O", "e_sepia"], (60, 40)),
        (["--w", "60", "--option", "fl_attachment:holiday"], (60, 40)),
        (["--option", "w_80/w_60,e_grayscale"], (60, 40)),
    ],
)
@pytest.mark.parametrize("sign", [(), ("--sign",)], ids=["", "signed"])
def test_every_option_is_served(server, built, arguments, size, sign):
    (target,) = built("plain.png", *arguments, *sign)

    assert size_of(server, target) == size


def test_every_candidate_of_a_srcset_is_served_at_its_width(server, built):
    src, srcset = built("two words.png", "--w", "80", "--f", "auto", "--srcset", "20,40,60", "--expires", "1h")
    candidates = dict(reversed(candidate.split()) for candidate in srcset.split(", "))

    assert size_of(server, src)[0] == 80
    assert {width: f"{size_of(server, target)[0]}w" for width, target in candidates.items()} == {
        "20w": "20w",
        "40w": "40w",
        "60w": "60w",
    }


def test_a_version_makes_the_answer_immutable_if_it_is_proven(server, built):
    def lifetime(*arguments: str) -> str:
        return server.ask(built("plain.png", "--w", "30", *arguments)[0]).headers["Cache-Control"]

    assert "immutable" in lifetime("--v", "auto")
    assert "immutable" in lifetime("--v", "3", "--sign")
    assert "immutable" not in lifetime("--v", "3")


def test_a_named_source_is_served(server, built):
    (target,) = built("shop/dogs.jpg", "--w", "30", "--base", "https://images.example.com/")

    assert target.startswith("https://images.example.com/img/")
    assert size_of(server, target.removeprefix("https://images.example.com"))[0] == 30
