"""The machine is checked against the settings."""

import socket

import pytest

from imgserver.cli.checks import Check, machine
from imgserver.settings.loader import load
from imgserver.settings.schema import Settings


def check_named(name: str, settings: Settings) -> Check:
    return next(check for check in machine.run(settings) if check.name == name)


def test_a_port_in_use_is_reported_but_need_not_be_repaired() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check = check_named("port", load(None, {}, {"server.port": taken.getsockname()[1]}).settings)

    assert (check.ok, check.needed) == (False, False)
    assert "in use" in check.found


def test_a_check_that_raises_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgserver.runtime.resources.cpus", lambda: 1 / 0)

    assert "ZeroDivisionError" in check_named("cpus", Settings()).found
