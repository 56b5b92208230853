"""Reload of settings: keys and presets change while the server runs, by a rewritten settings file and SIGHUP."""

import http.client
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from unittest.mock import Mock

import pytest

from imgserver.observability.metrics import Metrics
from imgserver.security.api_keys import ApiKeySettings, digest_of, new_key
from imgserver.security.signing import Keyring, SigningSettings, read_key
from imgserver.settings.loader import BadSettings, load
from imgserver.settings.schema import Settings
from imgserver.web.reload_settings import SettingsReload
from tests.polling import wait_until
from tests.running_server import SAMPLES, ServerProcess, serving

OLD, NEW = secrets.token_hex(32), secrets.token_hex(32)
PHOTO = (SAMPLES / "cat.png").read_bytes()
# The responses that each phase of the load waits for.
RESPONSES = 80


@dataclass(slots=True)
class ReloadableServer:
    """A server with a settings file."""

    server: ServerProcess
    file: Path
    earlier_events: int = 0

    def apply(self, text: str) -> None:
        """Replaces the file and waits until the server has reloaded or refused it."""
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(text)
        fresh.replace(self.file)
        self.server.reload()

    def begin(self, text: str) -> None:
        """Applies the settings that a test begins with; `logged` ignores the events until then."""
        self.apply(text)
        self.earlier_events = len(self.server.events())

    def logged(self, event: str) -> list[dict]:
        return [one for one in self.server.events()[self.earlier_events :] if one["event"] == event]


@contextmanager
def serving_settings(folder: Path, text: str = "", **settings: object) -> Iterator[ReloadableServer]:
    """Checks at the end that no signing key is in the log."""
    file = folder / "imgserver.toml"
    file.write_text(text)
    with serving(workers_count=1, variables={"IMGSERVER_CONFIG": str(file)}, **settings) as server:
        yield ReloadableServer(server, file)
        log = server.log.read_text("utf-8", "replace")
        assert "server.reloaded" in log
        assert [key for key in (OLD, NEW) if key in log] == []


@pytest.fixture(scope="module")
def reloadable(tmp_path_factory) -> Iterator[ReloadableServer]:
    """One server for all tests whose settings can be reloaded."""
    with serving_settings(tmp_path_factory.mktemp("settings")) as running:
        yield running
        running.apply("")


def signing(*keys: str) -> str:
    return f"[signing]\nmode = 'required'\nkeys = {list(keys)}\n"


def signed(key: str, rest: str = "w_40/cat.png") -> str:
    return f"/img/s--{Keyring((read_key(key),)).sign(rest, source='photos')}--/{rest}"


@dataclass(slots=True)
class Load:
    """Clients that send requests without a pause and sign with each of `keys` in turn. Most requests are hits."""

    server: ServerProcess
    keys: tuple[str, ...]
    statuses: Counter = field(default_factory=Counter)
    requests: list[int] = field(default_factory=lambda: [0, 0, 0])
    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        clients = [threading.Thread(target=self._send, args=(number,)) for number in range(len(self.requests))]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._done.set()
            for client in clients:
                client.join(30)

    def wait_for_responses(self) -> None:
        """Returns when every client has begun and ended requests with the present keys."""
        wanted = [count + RESPONSES // len(self.requests) for count in self.requests]
        wait_until(
            lambda: all(map(int.__ge__, self.requests, wanted)) or self._has_failed, "the load continues", seconds=30
        )

    @property
    def _has_failed(self) -> bool:
        return bool(set(self.statuses) - {200})

    def _send(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        for turn in cycle(range(300)):
            if self._done.is_set() or self._has_failed:
                break
            keys = self.keys
            try:
                connection.request("GET", signed(keys[turn % len(keys)], f"w_{10 + turn // 10 + 40 * number}/cat.png"))
                answer = connection.getresponse()
                answer.read()
                self.statuses[answer.status] += 1
            except OSError as error:
                self.statuses[type(error).__name__] += 1
            self.requests[number] += 1
        connection.close()


def test_no_request_fails_while_keys_are_rotated_under_load(reloadable):
    """Fault 37: both keys are valid during the overlap; when the old one is removed, no client uses it any more."""
    reloadable.begin(signing(OLD))
    load = Load(reloadable.server, (OLD,))
    with load.running():
        load.wait_for_responses()
        reloadable.apply(signing(NEW, OLD))
        load.keys = (OLD, NEW)
        load.wait_for_responses()
        reloadable.apply("signing = 'nonsense'")
        load.wait_for_responses()
        load.keys = (NEW,)
        load.wait_for_responses()
        reloadable.apply(signing(NEW))
        load.wait_for_responses()
    with_the_old, with_the_new = reloadable.server.ask(signed(OLD)), reloadable.server.ask(signed(NEW))
    changes = reloadable.logged("security.keys_changed")

    assert set(load.statuses) == {200}
    assert sum(load.requests) >= 5 * RESPONSES - 5 * len(load.requests)
    assert (with_the_old.status, with_the_new.status) == (403, 200)
    old, new = read_key(OLD).id, read_key(NEW).id
    assert [(change["before"], change["signing"]) for change in changes] == [([old], [new, old]), ([new, old], [new])]
    assert {(change["level"], change["reason"], change["mode"]) for change in changes} == {
        ("info", "reload", "required")
    }


def test_a_url_with_a_removed_key_is_refused_although_it_is_cached(reloadable):
    reloadable.begin(signing(OLD))
    before = [reloadable.server.ask(signed(OLD)) for _ in range(3)]
    reloadable.apply(signing(NEW))
    after = [
        reloadable.server.ask(signed(OLD)),
        reloadable.server.ask(signed(OLD), headers={"If-None-Match": "*"}),
    ]
    unsigned = reloadable.server.ask("/img/w_40/cat.png").status
    reloadable.apply("[signing]\nmode = 'remote-only'")
    opened = reloadable.server.ask("/img/w_40/cat.png").status

    assert [answer.status for answer in before] == [200] * 3
    assert before[-1].cache_status == "imgserver; hit"
    assert [answer.status for answer in after] == [403] * 2
    assert (unsigned, opened) == (403, 200)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("[workers]\ncount = -1\n", "workers.count"),
        ("[presets]\ncard = 'w_0'\n", "presets.card"),
        ("[nosuch]\n", "no section [nosuch]"),
        ("[signing", "not valid TOML"),
        ("[sources.shop]\nroot = '.'\n[api_keys.ci]\nscopes = 'everything'\n", "scopes"),
    ],
)
def test_a_file_with_any_fault_is_refused_as_a_whole(reloadable, fault, message):
    def refusals() -> float:
        return reloadable.server.metric("imgserver_security_events_total", event="settings_refused", reason="invalid")

    reloadable.begin(signing(OLD))
    before = refusals()
    reloadable.apply(signing(NEW) + fault)
    statuses = reloadable.server.ask(signed(OLD)).status, reloadable.server.ask(signed(NEW)).status
    succeeded = reloadable.server.metric("imgserver_settings_last_reload_successful")
    audited = refusals() - before
    reloadable.apply(signing(NEW, OLD))
    again = reloadable.server.metric("imgserver_settings_last_reload_successful")
    with_new = reloadable.server.ask(signed(NEW)).status
    (error,), (warning,) = reloadable.logged("reload.refused"), reloadable.logged("security.settings_refused")

    assert statuses == (200, 403)
    assert (succeeded, audited, again, with_new) == (0, 1, 1, 200)
    assert (error["level"], error["part"], warning["level"]) == ("error", "settings", "warning")
    assert message in error["detail"]


def test_a_missing_file_changes_nothing(reloadable):
    reloadable.begin(signing(OLD))
    reloadable.file.unlink()
    reloadable.server.reload()
    status = reloadable.server.ask(signed(OLD)).status
    (error,) = reloadable.logged("reload.refused")

    assert status == 200
    assert "cannot be read" in error["detail"]


def test_a_key_for_a_source_that_waits_for_a_restart_is_refused(reloadable):
    reloadable.begin(signing(OLD))
    reloadable.apply(signing(OLD, f"shop={NEW}") + f"[sources.shop]\nroot = '{SAMPLES}'\n")
    status = reloadable.server.ask(signed(OLD)).status
    (error,) = reloadable.logged("reload.refused")

    assert status == 200
    assert "key 2 is tied to shop, which is no source" in error["detail"]
    assert "wait for a restart" in error["detail"]


def test_settings_that_need_a_restart_are_named_and_not_changed(reloadable):
    reloadable.begin("")
    reloadable.apply("[limits]\noutput_pixels = 100\n[presets]\ncard = 'w_30'\n")
    image, preset = (
        reloadable.server.ask("/img/w_50/cat.png").status,
        reloadable.server.ask("/img/t_card/cat.png").status,
    )
    (warning,), (change,) = reloadable.logged("settings.restart_required"), reloadable.logged("settings.changed")
    changes_of_keys = reloadable.logged("security.keys_changed")

    assert (image, preset) == (200, 200)
    assert (warning["level"], warning["names"]) == ("warning", ["limits.output_pixels"])
    assert change["names"] == ["presets.card"]
    assert changes_of_keys == []


def test_presets_change_together_for_images_uploads_purges_and_the_gallery(tmp_path):
    key = "0123456789abcdef0123456789abcdef"
    only = f"[native]\npresets_only = true\n[admin]\nkey = '{key}'\n[presets]\n"
    with serving_settings(tmp_path, f"{only}card = 'w_30'\nold = 'f_info'\n") as running:
        ask = running.server.ask
        before = ask("/img/t_card/cat.png").body
        running.apply(f"{only}card = 'w_20'\nfresh = 'f_info'\n")
        after = ask("/img/t_card/cat.png").body
        removed, added = ask("/img/t_old/cat.png").status, ask("/img/t_fresh/cat.png").status
        headers = {"Content-Type": "image/png", "Content-Length": str(len(PHOTO)), "Authorization": f"Bearer {key}"}
        upload = ask("/api/image/optimize?options=t_card", "POST", headers, PHOTO)
        purged = running.server.post("/api/admin/purge", {"url": "/img/t_fresh/cat.png"}, key=key)
        gallery = ask("/").body.decode()

    assert before != after
    assert (removed, added) == (400, 200)
    assert upload.headers["X-Image-Width"] == "20"
    assert (purged.status, purged.json()["removed"]["memory"]) == (200, 1)
    assert "t_fresh" in gallery
    assert "t_old" not in gallery


def test_api_keys_are_added_and_removed(reloadable):
    one, two = new_key("ci"), new_key("ci")

    def row(text: str) -> str:
        return f"[api_keys.ci]\nscopes = 'purge upload'\n{text}"

    def purge(key: str) -> int:
        return reloadable.server.post("/api/admin/purge", {"source": "cat.png"}, key=key).status

    def statuses_of_keys() -> tuple[int, int, int]:
        headers = {"Content-Type": "image/png", "Content-Length": str(len(PHOTO))}
        upload = reloadable.server.ask("/api/image/optimize", "POST", headers, PHOTO)
        return purge(one), purge(two), upload.status

    reloadable.begin("")
    statuses = [statuses_of_keys(), reloadable.server.ask("/api/admin/purge").status]
    reloadable.apply(row(f"digest = '{digest_of(one)}'\n"))
    statuses += [statuses_of_keys(), reloadable.server.ask("/api/admin/purge").status]
    reloadable.apply(row(f"digest = '{digest_of(two)}'\nold_digest = '{digest_of(one)}'\n"))
    statuses += [statuses_of_keys()]
    reloadable.apply(row(f"digest = '{digest_of(two)}'\n"))
    statuses += [statuses_of_keys()]
    reloadable.apply("")
    statuses += [statuses_of_keys()]
    changes = [change["api_keys"] for change in reloadable.logged("security.keys_changed")]

    assert statuses == [
        *((404, 404, 200), 404),
        *((200, 401, 401), 405),
        (200, 200, 401),
        (401, 200, 401),
        (404, 404, 200),
    ]
    assert changes == [["ci"], ["ci"], ["ci"], []]


def test_a_setting_that_becomes_weak_again_is_audited_again(reloadable):
    weak, strong = "[admin]\nkey = '0123456789abcdef'\n", f"[admin]\nkey = '{secrets.token_hex(32)}'\n"
    reloadable.begin(strong)
    for text in (weak, weak + "[presets]\ncard = 'w_9'\n", strong, weak):
        reloadable.apply(text)
    reasons = [event["reason"] for event in reloadable.logged("security.config_weak")]

    assert reasons == ["admin_key_short"] * 2


def make_reload(read, settings: Settings | None = None, **parts: Mock) -> SettingsReload:
    parts = {"metrics": Metrics(), "audit": Mock(), "logger": Mock(), **parts}
    return SettingsReload(settings or Settings(), read, **parts)


async def test_an_environment_variable_wins_over_the_reloaded_file(tmp_path):
    file, variables = tmp_path / "imgserver.toml", {"IMGSERVER_SIGNING_KEYS": OLD, "IMGSERVER_SIGNING_MODE": "required"}
    file.write_text("")
    reload = make_reload(lambda: load(file, variables, {}).settings, load(file, variables, {}).settings)
    installed = Mock()
    reload.follow(installed)
    file.write_text(signing(NEW))
    await reload.reload()

    assert reload.current.signing.keys == (OLD,)
    assert installed.call_args.args == (reload.current,)


async def test_new_settings_are_installed_only_when_they_are_valid():
    installed: list[Settings] = []
    read = Mock(side_effect=[BadSettings("wrong", faults=("wrong",)), Settings(presets={"card": "w_9"})])
    reload = make_reload(read)
    reload.follow(installed.append)
    with pytest.raises(BadSettings):
        await reload.reload()
    before = list(installed)
    await reload.reload()

    assert before == []
    assert installed == [reload.current]
    assert reload.current.presets == {"card": "w_9"}


async def test_an_unexpected_error_shows_in_the_metric():
    metrics = Metrics()
    with pytest.raises(RuntimeError):
        await make_reload(Mock(side_effect=RuntimeError), metrics=metrics).reload()

    assert metrics.registry.get_sample_value("imgserver_settings_last_reload_successful") == 0


async def test_the_names_of_changed_settings_are_logged_without_secrets():
    logger, audit = Mock(), Mock()
    secret = ApiKeySettings("upload", digest_of("key"))
    new = Settings(signing=SigningSettings(keys=(OLD,)), api_keys={"ci": secret})
    await make_reload(lambda: new, logger=logger, audit=audit).reload()

    assert logger.info.call_args.kwargs["names"] == [
        *("api_keys.ci.digest", "api_keys.ci.old_digest", "api_keys.ci.scopes", "signing.keys"),
    ]
    assert audit.call_args.args == ("keys_changed",)
    assert OLD not in str([logger.mock_calls, audit.mock_calls])
    assert secret.digest not in str([logger.mock_calls, audit.mock_calls])
