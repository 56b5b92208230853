"""`config check` and `serve` refuse the same settings, each with all faults in one report."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from imgserver.cli import main
from imgserver.errors import ImgserverError
from imgserver.settings.loader import load
from imgserver.web.app import make_app

REFUSED = {
    "no folder": ('[source]\nroot = "absent"', ["absent does not exist (source.root, from file settings.toml)"]),
    "a file": ('[source]\nroot = "file"', ["file is not a folder (source.root"]),
    "another folder": ('[sources.shop]\nroot = "absent"', ["source shop: absent is not a folder"]),
    "not writable": ('[sources.shop]\nroot = "/proc"\nwritable = true', ["source shop: /proc cannot be written to"]),
    "one name": ('[source]\nname = "shop"\n[sources.shop]\nroot = "."', ["two sources have the name 'shop'"]),
    "redis": ('[redis]\nurl = "http://localhost"', ["redis.url must begin with"]),
    "temporary files": ('[uploads]\ntemp_path = "absent"', ["absent is not a folder (uploads.temp_path)"]),
    "store": ('[uploads]\nstore = "shop"', ["uploads.store: shop is not a source; the sources are photos"]),
    "closed store": ('[uploads]\nstore = "photos"', ["uploads.store: photos is not writable"]),
    "no policy": ('[security]\npolicy = "absent.yaml"', ["absent.yaml: cannot be read"]),
    "policy": ('[security]\npolicy = "policy.yaml"', ["policy.yaml:1: no entry clint", "policy.yaml:2: rates"]),
    "credentials": ('[source]\nurl = "s3://bucket"\nenv_prefix = "NO_SUCH_"', ["no environment variable begins with"]),
    "everything": (
        '[server]\nport = 70000\n[source]\nroot = "absent"\n[uploads]\ntemp_path = "none"\nstore = "x"\n'
        '[security]\npolicy = "policy.yaml"\n[redis]\nurl = "http://localhost"\n[signing]\nmode = "required"',
        [
            "settings.toml:2:1: server.port",
            "settings.toml:12:2: signing: mode is required",
            "absent does not exist",
            "redis.url must begin with",
            "policy.yaml:1",
            "policy.yaml:2",
            "none is not a folder",
            "uploads.store: x is not a source",
        ],
    ),
}
# Faults that only commands report: an application would answer every request for an image with 404.
COMMAND_ONLY = ("everything", "no folder", "a file")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "policy.yaml").write_text("clint: {}\nrates: 5\n")
    return tmp_path


@pytest.mark.parametrize(("text", "faults"), REFUSED.values(), ids=REFUSED)
def test_check_and_serve_refuse_the_same_settings(folder, text, faults):
    (folder / "settings.toml").write_text(text)

    checked = CliRunner().invoke(main, ["config", "check", "settings.toml"])
    served = CliRunner().invoke(main, ["serve", "--config", "settings.toml"])

    assert (checked.exit_code, checked.stdout, checked.stderr) == (1, "", served.stderr)
    assert served.exit_code == 1
    lines = checked.stderr.removeprefix("Error: ").splitlines()
    assert len(lines) == len(faults)
    assert all(fault in line for fault, line in zip(faults, lines, strict=True))


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in COMMAND_ONLY])
def test_what_the_check_refuses_the_application_refuses_too(folder, name):
    (folder / "settings.toml").write_text(REFUSED[name][0])

    with pytest.raises(ImgserverError):
        make_app(load(Path("settings.toml"), {}, {}).settings)


def test_valid_settings_pass(folder):
    (folder / "settings.toml").write_text('[uploads]\ntemp_path = "."\nstore = "photos"\n[source]\nwritable = true\n')

    result = CliRunner().invoke(main, ["config", "check", "settings.toml"])

    assert (result.exit_code, result.stdout) == (0, "settings.toml: valid, 3 settings\n")
