"""`imgserver url` builds the URLs that the server parses."""

import json
import time

import pytest
from click.testing import CliRunner, Result

from imgserver.cli import main
from imgserver.plan.plan import SourceRef
from imgserver.settings.loader import load
from imgserver.settings.schema import Settings
from imgserver.web.bootstrap.dialects import make_dialects
from tests.running_server import SAMPLES


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["url", *arguments], env=environ)


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        (["cat.png"], "/img/cat.png"),
        (["cat.png", "--w", "400", "--f", "auto"], "/img/w_400,f_auto/cat.png"),
        (["cat.png", "--ar", "16:9", "--w", "0.5"], "/img/w_0.5,ar_16:9/cat.png"),
        (["cat.png", "--w", "9", "--option", "e_blur:4", "-O", "e_sepia"], "/img/w_9,e_blur:4,e_sepia/cat.png"),
        (["w_1/a,b#ü.png", "--q", "80"], "/img/q_80/_/w_1/a%2Cb%23%C3%BC.png"),
        (["a.jpg", "--base", "https://i.example.com/"], "https://i.example.com/img/a.jpg"),
        (["a.jpg", "--w", "5", "--srcset", "1,2"], "/img/w_5/a.jpg\n/img/w_1/a.jpg 1w, /img/w_2/a.jpg 2w"),
        (["a.jpg", "--h", "9", "--srcset", "1, 2"], "/img/w_1,h_9/a.jpg 1w, /img/w_2,h_9/a.jpg 2w"),
    ],
)
def test_a_url_has_the_given_options(arguments: list[str], url: str) -> None:
    assert run(*arguments).stdout == f"{url}\n"


@pytest.mark.parametrize(
    "path", ["a b.jpg", "https:/x", "_/x.jpg", "s--a--/b.jpg", "e_x.jpg", "photos/c.jpg", "100%.gif"]
)
def test_the_server_parses_the_same_path(path: str) -> None:
    target = run(path, "--w", "5").stdout.strip()

    assert make_dialects(Settings()).parse(target).ref == SourceRef("photos", path)


def test_invalid_options_are_refused_by_the_parser() -> None:
    result = run("a.jpg", "--w", "80O")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith('Error: w: "80O" is not allowed; ')


def test_the_configured_limits_apply() -> None:
    assert run("a.jpg", "--w", "900", IMGSERVER_NATIVE_MAX_SIDE="800").exit_code == 1


@pytest.mark.parametrize("arguments", [["a.jpg", "--srcset", "1,x"], ["a.jpg", "--expires", "soon"], []])
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


KEYS = {"IMGSERVER_SIGNING_KEYS": bytes(range(32)).hex()}


def test_a_signed_url_is_the_published_example() -> None:
    result = run("photo.jpg", "--option", "w_800,q_80", "--sign", **KEYS)

    assert result.stdout == "/img/s--mVQWZncozB1VroorjC3Lcg--/w_800,q_80/photo.jpg\n"


def test_every_width_of_a_srcset_is_signed() -> None:
    base = "https://i.example.com"
    line = run("a.jpg", "--srcset", "100,200", "--expires", "1h", "--base", base, **KEYS).stdout.strip()
    dialect = make_dialects(load(None, KEYS, {}).settings)

    requests = [dialect.parse(item.split()[0].removeprefix(base)) for item in line.split(", ")]
    assert [request.signed for request in requests] == [True, True]
    assert len({request.expires for request in requests}) == 1
    assert [item.split()[1] for item in line.split(", ")] == ["100w", "200w"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)])
def test_a_url_expires_after_the_given_time(text: str, seconds: int) -> None:
    before = int(time.time())
    target = run("a.jpg", "--expires", text, **KEYS).stdout.strip()

    expires = make_dialects(load(None, KEYS, {}).settings).parse(target).expires
    assert expires is not None and before + seconds <= expires <= time.time() + seconds


def test_signing_without_a_key_is_an_error() -> None:
    result = run("a.jpg", "--sign")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "no key to sign" in result.stderr


@pytest.mark.parametrize("text", ["1", "h", "1w", "-1h", "1.5h", "0s"])
def test_a_malformed_time_is_exit_code_2(text: str) -> None:
    assert run("a.jpg", "--expires", text, **KEYS).exit_code == 2


def test_every_url_is_signed_if_signatures_are_required() -> None:
    assert run("a.jpg", IMGSERVER_SIGNING_MODE="required", **KEYS).stdout.startswith("/img/s--")


SOURCE = {"IMGSERVER_SOURCE_ROOT": str(SAMPLES)}


def test_the_version_is_that_which_f_info_shows() -> None:
    info = CliRunner().invoke(main, ["get", "/img/f_info/cat.png"], env=SOURCE)
    version = json.loads(info.stdout)["original"]["version"]

    assert run("cat.png", "--w", "40", "--v", "auto", **SOURCE).stdout == f"/img/w_40/cat.png?v={version}\n"
    assert run("cat.png", "--srcset", "1,2", "--v", "auto", **SOURCE).stdout == (
        f"/img/w_1/cat.png?v={version} 1w, /img/w_2/cat.png?v={version} 2w\n"
    )


def test_the_version_of_an_absent_original_is_exit_code_1() -> None:
    result = run("nosuch.png", "--v", "auto", **SOURCE)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "the source photos has no original nosuch.png" in result.stderr


def test_the_version_has_the_configured_parameter() -> None:
    assert run("cat.png", "--v", "3", IMGSERVER_HTTP_VERSION_PARAMETER="rev").stdout == "/img/cat.png?rev=3\n"
    assert run("cat.png", "--v", "3", IMGSERVER_HTTP_VERSION_PARAMETER="").exit_code == 2
    assert run("cat.png", "--v", "a&b").exit_code == 2


@pytest.mark.parametrize("version", ["auto", "3"])
def test_only_a_version_of_your_own_is_covered_by_the_signature(version: str) -> None:
    settings = {**KEYS, **SOURCE}
    url = run("cat.png", "--sign", "--v", version, **settings).stdout.strip()
    request = make_dialects(load(None, settings, {}).settings).parse(url)

    assert (request.signed, request.query_signed) == (True, version == "3")
