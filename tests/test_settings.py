"""One file, the environment and the command line become one frozen value, or one message with every fault."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from imgserver.loading import BadSettings, Loaded, Origin, load
from imgserver.settings import NAME_RULE, Settings, hints, values, variable
from imgserver.spelling import allowed, parse_size, spell_size


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "imgserver.toml"


def faults_of(path: Path | None = None, environ: dict[str, str] | None = None, **overrides: object) -> tuple[str, ...]:
    with pytest.raises(BadSettings) as caught:
        load(path, environ or {}, overrides)
    assert caught.value.detail.splitlines() == list(caught.value.facts["faults"])
    return tuple(caught.value.facts["faults"])


def test_nothing_given_is_the_defaults() -> None:
    loaded = load(None, {"HOME": "/nowhere"}, {})

    assert loaded == Loaded(Settings(), {name: Origin("default") for name in hints()})


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("file", "environ", "overrides", "port", "origin"),
    [
        ("", {}, {}, 8080, "default"),
        ("", {"PORT": "1"}, {}, 1, "env PORT"),
        ("[server]\nport = 2", {"PORT": "1"}, {}, 2, "file"),
        ("[server]\nport = 2", {"PORT": "1", "IMGSERVER_SERVER_PORT": "3"}, {}, 3, "env IMGSERVER_SERVER_PORT"),
        ("[server]\nport = 2", {"PORT": "1", "IMGSERVER_SERVER_PORT": "3"}, {"server.port": 4}, 4, "option --port"),
    ],
)
def test_the_stronger_origin_wins_and_is_told(
    toml: Path, file: str, environ: dict[str, str], overrides: dict[str, object], port: int, origin: str
) -> None:
    toml.write_text(file)

    loaded = load(toml, environ, overrides)

    assert loaded.settings.server.port == port
    assert str(loaded.origins["server.port"]) == (f"file {toml}" if origin == "file" else origin)


def test_the_variable_names_the_file_unless_an_option_does(toml: Path, tmp_path: Path) -> None:
    toml.write_text("[server]\nport = 2")
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 3")

    assert load(None, {"IMGSERVER_CONFIG": str(toml)}, {}).settings.server.port == 2
    assert load(other, {"IMGSERVER_CONFIG": str(toml)}, {}).settings.server.port == 3


def test_every_value_has_a_variable() -> None:
    environ = {variable(name): str(value) for name, value in values(Settings()).items() if isinstance(value, int)}

    loaded = load(None, environ, {})

    assert loaded.settings == Settings()
    assert {loaded.origins[name].kind for name in hints() if variable(name) in environ} == {"env"}


def test_all_faults_come_in_one_message(toml: Path) -> None:
    toml.write_text('[server]\nprot = 1\nport = true\n[limts]\nframes = 1\n[log]\nlevel = "loud"\n')
    environ = {"IMGSERVER_SERVER_PORT": "80O", "IMGSERVER_LIMIT_FRAMES": "1"}

    assert faults_of(toml, environ, **{"workers.count": "-1"}) == (
        f"{toml}: no setting server.prot; nearest: server.port",
        f"{toml}: no section [limts]; nearest: limits",
        "IMGSERVER_LIMIT_FRAMES: no such setting; nearest: IMGSERVER_LIMITS_FRAMES",
        f'{toml}: server.port: "True" is not allowed; a whole number 0-65535',
        f'{toml}: log.level: "loud" is not allowed; debug, info, warning, error',
        'IMGSERVER_SERVER_PORT: "80O" is not allowed; a whole number 0-65535',
        f'--workers: "-1" is not allowed; {allowed("workers.count")}',
    )


def test_a_bad_value_is_a_fault_even_where_a_stronger_origin_replaces_it(toml: Path) -> None:
    toml.write_text("[server]\nport = 70000")

    assert len(faults_of(toml, {}, **{"server.port": 80})) == 1


def test_values_that_read_like_another_type_are_refused() -> None:
    for name, value in {"server.port": "8.5", "server.drain_seconds": "nan", "limits.svg": "perhaps"}.items():
        assert f'"{value}" is not allowed' in faults_of(None, {variable(name): value})[0]


def test_a_missing_or_broken_file_is_a_fault(toml: Path) -> None:
    assert "cannot be read: No such file" in faults_of(toml)[0]
    toml.write_text("server = [")
    assert "not valid TOML" in faults_of(toml)[0]
    toml.write_text("server = 8")
    assert "a table [server]" in faults_of(toml)[0]
    toml.write_bytes(b"\xff\xfe")
    assert "not valid TOML" in faults_of(toml)[0]


@pytest.mark.parametrize(
    ("text", "count"),
    [("4096", 4096), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("512k", 512_000), ("2GiB", 2 << 30), ("7b", 7)],
)
def test_sizes_are_plain_or_with_a_unit(text: str, count: int) -> None:
    assert parse_size(text) == count
    assert load(None, {}, {"limits.source_bytes": max(count, 4096)}).settings.limits.source_bytes >= count


@pytest.mark.parametrize("text", ["", "MiB", "3 MB or so", "-1", "1e3", "64 QiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert "not allowed" in faults_of(None, {"IMGSERVER_CACHE_MEMORY_BYTES": text})[0]


@pytest.mark.parametrize("count", [0, 1, 1000, 1024, 64 << 20, 3 << 30, (64 << 20) + 1])
def test_a_spelt_size_reads_back(count: int) -> None:
    assert parse_size(spell_size(count)) == count


def test_a_table_of_own_names_may_have_a_text_for_each(toml: Path) -> None:
    toml.write_text('[tags]\nsummer = "a/ *.png"')

    loaded = load(toml, {"IMGSERVER_TAGS_OLD_SHOP": "shop/"}, {})

    assert loaded.settings.tags == {"summer": "a/ *.png", "old-shop": "shop/"}
    assert values(loaded.settings)["tags.summer"] == "a/ *.png"
    toml.write_text("[tags]\nsummer = 1\nSummer = 'a'")
    assert faults_of(toml) == (f"{toml}: tags.Summer: {NAME_RULE}", f'{toml}: tags.summer: "1" is not allowed; text')


def test_a_path_stays_as_written() -> None:
    assert load(None, {"IMGSERVER_SOURCE_ROOT": "photos"}, {}).settings.source.root == Path("photos")


def test_tables_of_own_names_come_from_file_and_variables(toml: Path) -> None:
    toml.write_text('[sources.shop]\nroot = "wares"\n[sources.press]\nroot = "press"')
    environ = {"IMGSERVER_SOURCES_PRESS_ROOT": "elsewhere", "IMGSERVER_SOURCES_OLD_SHOP_ROOT": "old"}

    loaded = load(toml, environ, {})

    roots = {name: str(source.root) for name, source in loaded.settings.sources.items()}
    assert roots == {"shop": "wares", "press": "elsewhere", "old-shop": "old"}
    assert str(loaded.origins["sources.press.root"]) == "env IMGSERVER_SOURCES_PRESS_ROOT"
    assert values(loaded.settings)["sources.shop.root"] == Path("wares")


def test_faults_in_tables_of_own_names_are_told(toml: Path) -> None:
    toml.write_text('[sources]\nplain = "x"\n[sources.Shop]\nroot = "a"\n[sources.shop]\nrot = "a"')

    assert faults_of(toml, {"IMGSERVER_SOURCES_SHOP_ROT": "a"}) == (
        f"{toml}: sources.plain: 'x' is not allowed; a table [sources.plain] with names and values",
        f"{toml}: sources.Shop: {NAME_RULE}",
        f"{toml}: no setting sources.shop.rot; nearest: sources.shop.root",
        "IMGSERVER_SOURCES_SHOP_ROT: no such setting; nearest: IMGSERVER_SOURCE_ROOT",
    )
