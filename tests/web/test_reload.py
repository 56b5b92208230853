"""Keys and presets that change while the server serves: a settings file that is rewritten, and SIGHUP."""

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
from imgserver.settings.loader import BadSettings
from imgserver.settings.schema import Settings
from imgserver.web.reload_settings import SettingsReload
from tests.running_server import SAMPLES, ServerProcess, serving, wait_until

OLD, NEW = secrets.token_hex(32), secrets.token_hex(32)
PHOTO = (SAMPLES / "cat.png").read_bytes()
# Of each part of the load at least so many answers.
ANSWERS = 80


@dataclass(frozen=True, slots=True)
class Reread:
    """A server by a settings file."""

    server: ServerProcess
    file: Path

    def by(self, text: str) -> None:
        """Puts another file in its place and has it read."""
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(text)
        fresh.replace(self.file)
        self.server.reload()

    def told(self, event: str) -> list[dict]:
        return [one for one in self.server.events() if one["event"] == event]


@contextmanager
def reread(tmp_path: Path, text: str, **settings: object) -> Iterator[Reread]:
    file = tmp_path / "imgserver.toml"
    file.write_text(text)
    with serving(workers_count=1, variables={"IMGSERVER_CONFIG": str(file)}, **settings) as server:
        yield Reread(server, file)
        log = server.log.read_text("utf-8", "replace")
        assert "server.reloaded" in log
        assert [key for key in (OLD, NEW) if key in log] == []


def signing(*keys: str) -> str:
    return f"[signing]\nmode = 'required'\nkeys = {list(keys)}\n"


def signed(key: str, rest: str = "w_40/cat.png") -> str:
    return f"/img/s--{Keyring((read_key(key),)).sign(rest, source='photos')}--/{rest}"


@dataclass(slots=True)
class Load:
    """Clients that ask without a pause, signing by each of `keys` in turn; most pictures are kept, some are new."""

    server: ServerProcess
    keys: tuple[str, ...]
    statuses: Counter = field(default_factory=Counter)
    asked: list[int] = field(default_factory=lambda: [0, 0, 0])
    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        clients = [threading.Thread(target=self._ask, args=(number,)) for number in range(len(self.asked))]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._done.set()
            for client in clients:
                client.join(30)

    def goes_on(self) -> None:
        """Until every client has begun and ended requests by the keys of now."""
        wanted = [asked + ANSWERS // len(self.asked) for asked in self.asked]
        wait_until(lambda: all(map(int.__ge__, self.asked, wanted)) or self._fails, "the load goes on", seconds=30)

    @property
    def _fails(self) -> bool:
        return bool(set(self.statuses) - {200})

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        for turn in cycle(range(300)):
            if self._done.is_set() or self._fails:
                break
            keys = self.keys
            try:
                connection.request("GET", signed(keys[turn % len(keys)], f"w_{10 + turn // 10 + 40 * number}/cat.png"))
                answer = connection.getresponse()
                answer.read()
                self.statuses[answer.status] += 1
            except OSError as error:
                self.statuses[type(error).__name__] += 1
            self.asked[number] += 1
        connection.close()


def test_keys_are_rotated_under_load_and_no_request_fails(tmp_path):
    """Fault 37: both keys are good in the overlap; when the old one is taken out, nobody uses it any more."""
    with reread(tmp_path, signing(OLD)) as its:
        load = Load(its.server, (OLD,))
        with load.running():
            load.goes_on()
            its.by(signing(NEW, OLD))
            load.keys = (OLD, NEW)
            load.goes_on()
            its.by("signing = 'nonsense'")
            load.goes_on()
            load.keys = (NEW,)
            load.goes_on()
            its.by(signing(NEW))
            load.goes_on()
        by_the_old, by_the_new = its.server.ask(signed(OLD)), its.server.ask(signed(NEW))
        changes = its.told("security.keys_changed")

    assert set(load.statuses) == {200}
    assert sum(load.asked) >= 5 * ANSWERS - 5 * len(load.asked)
    assert (by_the_old.status, by_the_new.status) == (403, 200)
    old, new = read_key(OLD).id, read_key(NEW).id
    assert [(change["before"], change["signing"]) for change in changes] == [([old], [new, old]), ([new, old], [new])]
    assert {(change["level"], change["reason"], change["mode"]) for change in changes} == {
        ("info", "reload", "required")
    }


def test_a_url_by_a_key_that_is_gone_is_refused_though_it_is_remembered_and_kept(tmp_path):
    with reread(tmp_path, signing(OLD)) as its:
        before = [its.server.ask(signed(OLD)) for _ in range(3)]
        its.by(signing(NEW))
        after = [its.server.ask(signed(OLD)), its.server.ask(signed(OLD), headers={"If-None-Match": "*"})]
        unsigned = its.server.ask("/img/w_40/cat.png").status
        its.by("[signing]\nmode = 'remote-only'")
        opened = its.server.ask("/img/w_40/cat.png").status

    assert [answer.status for answer in before] == [200] * 3
    assert before[-1].cache_status == "imgserver; hit"
    assert [answer.status for answer in after] == [403] * 2
    assert (unsigned, opened) == (403, 200)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("[workers]\ncount = -1\n", "workers.count"),
        ("[presets]\ncard = 'w_0'\n", "presets.card"),
        ("[nosuch]\n", "no section [nosuch]"),
        ("[signing", "not valid TOML"),
        ("[sources.shop]\nroot = '.'\n[api_keys.ci]\nscopes = 'everything'\n", "scopes"),
    ],
)
def test_a_file_with_a_fault_anywhere_is_refused_as_a_whole(tmp_path, fault, sentence):
    with reread(tmp_path, signing(OLD)) as its:
        its.by(signing(NEW) + fault)
        statuses = its.server.ask(signed(OLD)).status, its.server.ask(signed(NEW)).status
        succeeded = its.server.metric("imgserver_settings_last_reload_successful")
        audited = its.server.metric("imgserver_security_events_total", event="settings_refused", reason="invalid")
        its.by(signing(NEW, OLD))
        again = its.server.metric("imgserver_settings_last_reload_successful")
        by_new = its.server.ask(signed(NEW)).status
        (error,), (warning,) = its.told("reload.refused"), its.told("security.settings_refused")

    assert statuses == (200, 403)
    assert (succeeded, audited, again, by_new) == (0, 1, 1, 200)
    assert (error["level"], error["part"], warning["level"]) == ("error", "settings", "warning")
    assert sentence in error["detail"]


def test_a_file_that_is_gone_changes_nothing(tmp_path):
    with reread(tmp_path, signing(OLD)) as its:
        its.file.unlink()
        its.server.reload()
        status = its.server.ask(signed(OLD)).status
        (error,) = its.told("reload.refused")

    assert status == 200
    assert "cannot be read" in error["detail"]


def test_a_key_for_a_source_that_waits_for_a_restart_is_refused(tmp_path):
    with reread(tmp_path, signing(OLD)) as its:
        its.by(signing(OLD, f"shop={NEW}") + f"[sources.shop]\nroot = '{SAMPLES}'\n")
        status = its.server.ask(signed(OLD)).status
        (error,) = its.told("reload.refused")

    assert status == 200
    assert "key 2 is tied to shop, which is no source" in error["detail"]
    assert "wait for a restart" in error["detail"]


def test_what_needs_a_restart_is_named_and_not_done(tmp_path):
    with reread(tmp_path, "") as its:
        its.by("[limits]\noutput_pixels = 100\n[presets]\ncard = 'w_30'\n")
        picture, preset = its.server.ask("/img/w_50/cat.png").status, its.server.ask("/img/t_card/cat.png").status
        (warning,), (change,) = its.told("settings.need_restart"), its.told("settings.changed")
        changes_of_keys = its.told("security.keys_changed")

    assert (picture, preset) == (200, 200)
    assert (warning["level"], warning["names"]) == ("warning", ["limits.output_pixels"])
    assert change["names"] == ["presets.card"]
    assert changes_of_keys == []


def test_presets_change_for_pictures_uploads_purges_and_the_gallery_at_once(tmp_path):
    only = "[native]\npresets_only = true\n[admin]\nkey = '0123456789abcdef0123456789abcdef'\n[presets]\n"
    facts = "f_info"
    with reread(tmp_path, f"{only}card = 'w_30'\nold = '{facts}'\n") as its:
        ask, key = its.server.ask, "0123456789abcdef0123456789abcdef"
        before = ask("/img/t_card/cat.png").body
        its.by(f"{only}card = 'w_20'\nfresh = '{facts}'\n")
        after = ask("/img/t_card/cat.png").body
        gone, come = ask("/img/t_old/cat.png").status, ask("/img/t_fresh/cat.png").status
        fields = {"Content-Type": "image/png", "Content-Length": str(len(PHOTO)), "Authorization": f"Bearer {key}"}
        upload = ask("/api/image/optimize?options=t_card", "POST", fields, PHOTO)
        purged = its.server.post("/api/admin/purge", {"url": "/img/t_fresh/cat.png"}, key=key)
        gallery = ask("/").body.decode()

    assert before != after
    assert (gone, come) == (400, 200)
    assert upload.headers["X-Image-Width"] == "20"
    assert (purged.status, purged.json()["removed"]["memory"]) == (200, 1)
    assert "t_fresh" in gallery
    assert "t_old" not in gallery


def test_api_keys_come_and_go(tmp_path):
    one, two = new_key("ci"), new_key("ci")

    def rows(text: str) -> str:
        return f"[api_keys.ci]\nscopes = 'purge upload'\n{text}"

    with reread(tmp_path, "") as its:

        def purge(key: str) -> int:
            return its.server.post("/api/admin/purge", {"source": "cat.png"}, key=key).status

        def seen() -> tuple[int, int, int]:
            fields = {"Content-Type": "image/png", "Content-Length": str(len(PHOTO))}
            return purge(one), purge(two), its.server.ask("/api/image/optimize", "POST", fields, PHOTO).status

        statuses = [seen(), its.server.ask("/api/admin/purge").status]
        its.by(rows(f"digest = '{digest_of(one)}'\n"))
        statuses += [seen(), its.server.ask("/api/admin/purge").status]
        its.by(rows(f"digest = '{digest_of(two)}'\nold_digest = '{digest_of(one)}'\n"))
        statuses += [seen()]
        its.by(rows(f"digest = '{digest_of(two)}'\n"))
        statuses += [seen()]
        its.by("")
        statuses += [seen()]
        changes = [change["api_keys"] for change in its.told("security.keys_changed")]

    assert statuses == [
        *((404, 404, 200), 404),
        *((200, 401, 401), 405),
        (200, 200, 401),
        (401, 200, 401),
        (404, 404, 200),
    ]
    assert changes == [["ci"], ["ci"], ["ci"], []]


def test_what_a_variable_says_stays(tmp_path):
    with reread(tmp_path, "", signing_keys=OLD, signing_mode="required") as its:
        its.by(signing(NEW))
        statuses = its.server.ask(signed(OLD)).status, its.server.ask(signed(NEW)).status
        changes = its.told("settings.changed")

    assert statuses == (200, 403)
    assert changes == []


def test_a_setting_that_grows_weak_is_told_again_and_only_then(tmp_path):
    weak, strong = "[admin]\nkey = '0123456789abcdef'\n", f"[admin]\nkey = '{secrets.token_hex(32)}'\n"
    with reread(tmp_path, strong) as its:
        for text in (weak, weak + "[presets]\ncard = 'w_9'\n", strong, weak):
            its.by(text)
        reasons = [event["reason"] for event in its.told("security.config_weak")]

    assert reasons == ["admin_key_short"] * 2


def settings_reload(read, **parts: Mock) -> SettingsReload:
    return SettingsReload(Settings(), read, **{"metrics": Metrics(), "audit": Mock(), "logger": Mock(), **parts})


async def test_followers_are_told_once_all_is_well_and_only_then():
    told: list[Settings] = []
    answers: list[object] = [BadSettings("wrong", faults=("wrong",)), Settings(presets={"card": "w_9"})]

    def read() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Settings)
        return answer

    its = settings_reload(read)
    its.follow(told.append)
    with pytest.raises(BadSettings):
        await its.reload()
    before = list(told)
    await its.reload()

    assert before == []
    assert told == [its.current]
    assert its.current.presets == {"card": "w_9"}


async def test_a_fault_that_nobody_expected_shows_in_the_metric_as_well():
    metrics = Metrics()
    its = settings_reload(Mock(side_effect=RuntimeError), metrics=metrics)
    with pytest.raises(RuntimeError):
        await its.reload()

    assert metrics.registry.get_sample_value("imgserver_settings_last_reload_successful") == 0


async def test_names_of_what_changed_are_told_and_no_secret_is():
    logger, audit = Mock(), Mock()
    secret = ApiKeySettings("upload", digest_of("key"))
    new = Settings(signing=SigningSettings(keys=(OLD,)), api_keys={"ci": secret})
    await settings_reload(lambda: new, logger=logger, audit=audit).reload()

    assert logger.info.call_args.kwargs["names"] == [
        *("api_keys.ci.digest", "api_keys.ci.old_digest", "api_keys.ci.scopes", "signing.keys"),
    ]
    assert audit.call_args.args == ("keys_changed",)
    assert OLD not in str([logger.mock_calls, audit.mock_calls])
    assert secret.digest not in str([logger.mock_calls, audit.mock_calls])
