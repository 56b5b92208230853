"""Errors of a settings file name the line and the column."""

from pathlib import Path

import pytest

from imgserver.settings.loader import BadSettings, load
from imgserver.settings.toml_file import TomlPositions

TEXT = '''# [server]
title = "x"

[server]
host = "a"  # port = 1
  port = 8080
"keepalive_timeout_seconds" = 3

[ sources . shop ]
root = "a"
headers = [
  "root = 2",
]
[sources."press"]
url = """
port = 9
[log]
"""
root = "b"
[redis]
[log]
level = "info"
[limits]
source.bytes = 1
[quality]
q = { jpeg = 3 }
'''


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("title", (2, 1)),
        ("server", (4, 2)),
        ("server.host", (5, 1)),
        ("server.port", (6, 3)),
        ("server.keepalive_timeout_seconds", (7, 1)),
        ("sources.shop", (9, 3)),
        ("sources.shop.root", (10, 1)),
        ("sources.shop.headers", (11, 1)),
        ("sources.press.root", (19, 1)),
        ("log", (21, 2)),
        ("log.level", (22, 1)),
        ("limits.source.bytes", (24, 1)),
        ("quality.q.jpeg", (26, 1)),
        ("absent", None),
        ("server.absent", (4, 2)),
    ],
)
def test_the_position_of_a_name(name, position):
    assert TomlPositions(TEXT).of(name) == position


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("[server]\nport = \n", ":2:8", "Invalid value"),
        ("[server]\nport = 80 80\n", ":2:11", "Expected newline"),
        ("[server\n", ":1:8", "Expected ']'"),
        ("[server]\nport = 1\n[server]\n", ":3:8", "Cannot declare"),
        ('[log]\nlevel = "info', ":2:14", "Unterminated string"),
        ("server = [", ":1:11", "Invalid value"),
        ("[server]\r\nport = 1\r\nport = 2\r\n", ":3:9", "Cannot overwrite"),
        ('[server]\nport = "80O"\n', ":2:1", "server.port: "),
        ('[server]\n\n  host = "a"\n  prot = 1\n', ":4:3", "no setting server.prot"),
        ("# \u2028 \x85\n[server]\nport = 70000\n", ":3:1", "server.port: "),
        ("server.port = 70000\n", ":1:1", "server.port: "),
        ("[signing]\nmode = 'required'\n", ":1:2", "signing: mode is required"),
        ("[presets]\ncard = 'w_0'\n", ":2:1", "presets.card"),
        ("[api_keys.ci]\nscopes = 'uplaod'\n", ":1:2", "api_keys.ci: scopes"),
    ],
)
def test_every_fault_of_a_file_begins_with_its_place(tmp_path: Path, text, place, reason):
    file = tmp_path / "imgserver.toml"
    file.write_bytes(text.encode())

    with pytest.raises(BadSettings) as caught:
        load(file, {}, {})

    assert caught.value.detail.startswith(f"{file}{place}: ")
    assert reason in caught.value.detail


def test_a_secret_in_a_wrong_place_is_not_shown(tmp_path: Path):
    file = tmp_path / "imgserver.toml"
    file.write_text('redis = "redis://:hunter2@localhost"\n[sources]\nshop = "hunter2"\n[admin]\nkey = ["hunter2"]\n')

    with pytest.raises(BadSettings) as caught:
        load(file, {"IMGSERVER_REDIS_URL": "hunter2"}, {})

    assert len(caught.value.facts["faults"]) >= 3
    assert "hunter2" not in caught.value.detail
