"""A setting's old name stops the server at its start, and the message says the new name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgserver.settings import renamed
from imgserver.settings.loader import BadSettings, load
from imgserver.settings.names import hints, patterns
from imgserver.settings.renamed import RENAMED, new_name, new_variable, old_names
from imgserver.settings.schema import Settings


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "imgserver.toml"


def faults_of(path: Path | None, environ: dict[str, str], overrides: dict[str, object]) -> tuple[str, ...]:
    with pytest.raises(BadSettings) as caught:
        load(path, environ, overrides)
    return tuple(caught.value.facts["faults"])


@pytest.fixture
def renames(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A table with one row of each kind, independent of what was renamed so far."""
    rows = {
        "queue.seats": "queue.max_waiting",
        "sources.*.folder": "sources.*.root",
        "notes": "log",
        "notes.style": "log.format",
    }
    monkeypatch.setattr(renamed, "RENAMED", rows)
    old_names.cache_clear()
    yield
    old_names.cache_clear()


def test_every_row_leads_from_a_name_of_the_past_to_a_present_one() -> None:
    known = {*hints(), *patterns()}
    sections = set(Settings.__dataclass_fields__)

    assert [old for old in RENAMED if old in known | sections] == []
    assert [new for new in RENAMED.values() if new not in known | sections] == []


@pytest.mark.usefixtures("renames")
def test_an_old_name_in_a_file_is_a_fault_with_the_new_name(toml: Path) -> None:
    toml.write_text('[queue]\nseats = 7\n[sources.shop]\nfolder = "wares"')

    assert faults_of(toml, {}, {}) == (
        f"{toml}:2:1: queue.seats is now queue.max_waiting",
        f"{toml}:4:1: sources.shop.folder is now sources.shop.root",
    )


@pytest.mark.usefixtures("renames")
def test_an_old_section_in_a_file_is_a_fault_with_every_new_name(toml: Path) -> None:
    toml.write_text('[notes]\nlevel = "info"\nstyle = "json"\nstile = "json"')

    assert faults_of(toml, {}, {}) == (
        f"{toml}:1:2: [notes] is now [log]",
        f"{toml}:2:1: notes.level is now log.level",
        f"{toml}:3:1: notes.style is now log.format",
        f"{toml}:4:1: no setting notes.stile; known: format, level",
    )


@pytest.mark.usefixtures("renames")
def test_an_old_variable_is_a_fault_with_the_new_variable() -> None:
    environ = dict.fromkeys(
        (
            "IMGSERVER_NOTES_LEVEL",
            "IMGSERVER_NOTES_STYLE",
            "IMGSERVER_QUEUE_SEATS",
            "IMGSERVER_SOURCES_OLD_SHOP_FOLDER",
        ),
        "x",
    )

    assert faults_of(None, environ, {}) == (
        "IMGSERVER_NOTES_LEVEL is now IMGSERVER_LOG_LEVEL",
        "IMGSERVER_NOTES_STYLE is now IMGSERVER_LOG_FORMAT",
        "IMGSERVER_QUEUE_SEATS is now IMGSERVER_QUEUE_MAX_WAITING",
        "IMGSERVER_SOURCES_OLD_SHOP_FOLDER is now IMGSERVER_SOURCES_OLD_SHOP_ROOT",
    )


@pytest.mark.usefixtures("renames")
def test_an_old_name_among_the_options_is_a_fault_with_the_new_name() -> None:
    assert faults_of(None, {}, {"queue.seats": 7}) == ("queue.seats is now queue.max_waiting",)


@pytest.mark.usefixtures("renames")
def test_old_names_stand_in_one_message_with_all_other_faults(toml: Path) -> None:
    toml.write_text("[queue]\nseats = 7\ndeadline_seconds = 0")

    assert len(faults_of(toml, {"IMGSERVER_QUEUE_SEATS": "7", "IMGSERVER_NOTES_COLOR": "1"}, {})) == 4


def test_names_that_were_never_renamed_have_no_new_name() -> None:
    assert new_name("server.port") is None
    assert new_name("queue.nonsense") is None
    assert new_variable("IMGSERVER_SERVER_PORT") is None


def test_the_queue_of_admission_is_bounded_by_max_waiting() -> None:
    assert new_variable("IMGSERVER_QUEUE_ROOM") == "IMGSERVER_QUEUE_MAX_WAITING"
