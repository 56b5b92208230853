"""A file, the environment and the command line become one frozen value, or one message with all errors."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from imgserver.settings.describe import allowed
from imgserver.settings.loader import BadSettings, Loaded, Origin, load
from imgserver.settings.names import NAME_RULE, hints, values, variable
from imgserver.settings.schema import Settings


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "imgserver.toml"


def faults_of(path: Path | None = None, environ: dict[str, str] | None = None, **overrides: object) -> tuple[str, ...]:
    with pytest.raises(BadSettings) as caught:
        load(path, environ or {}, overrides)
    assert caught.value.detail.splitlines() == list(caught.value.facts["faults"])
    return tuple(caught.value.facts["faults"])


def test_without_any_origin_every_value_is_the_default() -> None:
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
def test_the_origin_of_highest_precedence_wins_and_is_recorded(
    toml: Path, file: str, environ: dict[str, str], overrides: dict[str, object], port: int, origin: str
) -> None:
    toml.write_text(file)

    loaded = load(toml, environ, overrides)

    assert loaded.settings.server.port == port
    assert str(loaded.origins["server.port"]) == (f"file {toml}" if origin == "file" else origin)


def test_a_variable_names_the_file_unless_an_option_does(toml: Path, tmp_path: Path) -> None:
    toml.write_text("[server]\nport = 2")
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 3")

    assert load(None, {"IMGSERVER_CONFIG": str(toml)}, {}).settings.server.port == 2
    assert load(other, {"IMGSERVER_CONFIG": str(toml)}, {}).settings.server.port == 3


def test_every_number_can_be_set_by_a_variable() -> None:
    environ = {variable(name): str(value) for name, value in values(Settings()).items() if isinstance(value, int)}

    loaded = load(None, environ, {})

    assert loaded.settings == Settings()
    assert {loaded.origins[name].kind for name in hints() if variable(name) in environ} == {"env"}


def test_one_message_has_all_errors(toml: Path) -> None:
    toml.write_text('[server]\nprot = 1\nport = true\n[limts]\nframes = 1\n[log]\nlevel = "loud"\n')
    environ = {"IMGSERVER_SERVER_PORT": "80O", "IMGSERVER_LIMIT_FRAMES": "1"}

    assert faults_of(toml, environ, **{"workers.count": "-1"}) == (
        f"{toml}:2:1: no setting server.prot; nearest: server.port",
        f"{toml}:4:2: no section [limts]; nearest: limits",
        "IMGSERVER_LIMIT_FRAMES: no such setting; nearest: IMGSERVER_LIMITS_FRAMES",
        f'{toml}:3:1: server.port: "True" is not allowed; a whole number 0-65535',
        f'{toml}:7:1: log.level: "loud" is not allowed; debug, info, warning, error',
        'IMGSERVER_SERVER_PORT: "80O" is not allowed; a whole number 0-65535',
        f'--workers: "-1" is not allowed; {allowed("workers.count")}',
    )


def test_an_overridden_value_is_validated_too(toml: Path) -> None:
    toml.write_text("[server]\nport = 70000")

    assert len(faults_of(toml, {}, **{"server.port": 80})) == 1


def test_values_of_another_type_are_refused() -> None:
    for name, value in {"server.port": "8.5", "server.drain_seconds": "nan", "limits.svg": "perhaps"}.items():
        assert f'"{value}" is not allowed' in faults_of(None, {variable(name): value})[0]


def test_a_missing_or_malformed_file_is_an_error(toml: Path) -> None:
    assert "cannot be read: No such file" in faults_of(toml)[0]
    toml.write_text("server = [")
    assert "not valid TOML" in faults_of(toml)[0]
    toml.write_text("server = 8")
    assert "a table [server]" in faults_of(toml)[0]
    toml.write_bytes(b"\xff\xfe")
    assert "not valid TOML" in faults_of(toml)[0]


def test_a_size_may_be_text() -> None:
    assert load(None, {"IMGSERVER_LIMITS_SOURCE_BYTES": "1.5 MB"}, {}).settings.limits.source_bytes == 1_500_000


@pytest.mark.parametrize("text", ["", "MiB", "3 MB or so", "-1", "1e3", "64 QiB", "9" * 400])
def test_a_malformed_size_is_refused(text: str) -> None:
    assert "not allowed" in faults_of(None, {"IMGSERVER_CACHE_MEMORY_BYTES": text})[0]


def test_a_named_table_may_hold_plain_text(toml: Path) -> None:
    toml.write_text('[tags]\nsummer = "a/ *.png"')

    loaded = load(toml, {"IMGSERVER_TAGS_OLD_SHOP": "shop/"}, {})

    assert loaded.settings.tags == {"summer": "a/ *.png", "old-shop": "shop/"}
    assert values(loaded.settings)["tags.summer"] == "a/ *.png"
    toml.write_text("[tags]\nsummer = 1\nSummer = 'a'")
    assert faults_of(toml) == (
        f"{toml}:3:1: tags.Summer: {NAME_RULE}",
        f'{toml}:2:1: tags.summer: "1" is not allowed; text',
    )


def test_a_path_is_not_resolved() -> None:
    assert load(None, {"IMGSERVER_SOURCE_ROOT": "photos"}, {}).settings.source.root == Path("photos")


def test_named_tables_come_from_the_file_and_from_variables(toml: Path) -> None:
    toml.write_text('[sources.shop]\nroot = "wares"\n[sources.press]\nroot = "press"')
    environ = {"IMGSERVER_SOURCES_PRESS_ROOT": "elsewhere", "IMGSERVER_SOURCES_OLD_SHOP_ROOT": "old"}

    loaded = load(toml, environ, {})

    roots = {name: str(source.root) for name, source in loaded.settings.sources.items()}
    assert roots == {"shop": "wares", "press": "elsewhere", "old-shop": "old"}
    assert str(loaded.origins["sources.press.root"]) == "env IMGSERVER_SOURCES_PRESS_ROOT"
    assert values(loaded.settings)["sources.shop.root"] == Path("wares")


def test_errors_in_named_tables_are_reported(toml: Path) -> None:
    toml.write_text('[sources]\nplain = "x"\n[sources.Shop]\nroot = "a"\n[sources.shop]\nrot = "a"')

    assert faults_of(toml, {"IMGSERVER_SOURCES_SHOP_ROT": "a"}) == (
        f"{toml}:2:1: sources.plain: one value is not allowed; a table [sources.plain] with names and values",
        f"{toml}:3:2: sources.Shop: {NAME_RULE}",
        f"{toml}:6:1: no setting sources.shop.rot; nearest: sources.shop.root",
        "IMGSERVER_SOURCES_SHOP_ROT: no such setting; nearest: IMGSERVER_SOURCE_ROOT",
    )


KEY = bytes(range(32)).hex()


def test_lists_in_variables_are_separated_by_commas(toml: Path) -> None:
    keys = f'keys = ["{KEY}", "shop={KEY[2:]}00"]'
    toml.write_text(f'[native]\nsnap_widths = [100, 200]\n[signing]\n{keys}\n[sources.shop]\nroot = "x"')

    assert load(toml, {}, {}).settings.native.snap_widths == (100, 200)
    assert load(toml, {}, {}).settings.signing.keys == (KEY, f"shop={KEY[2:]}00")
    environ = {"IMGSERVER_NATIVE_SNAP_WIDTHS": "1, 2,3", "IMGSERVER_SIGNING_KEYS": ""}
    assert load(toml, environ, {}).settings.native.snap_widths == (1, 2, 3)
    assert load(toml, environ, {}).settings.signing.keys == ()


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({"SIGNING_KEYS": f"{KEY},,{KEY}"}, "signing: key 2 is empty; key 3 is a duplicate"),
        ({"SIGNING_KEYS": "beef"}, "signing: key 1 has 2 bytes; at least 16 are needed"),
        (
            {"SIGNING_MODE": "required"},
            "signing: mode is required, but there are no keys; `imgserver keys new` makes one",
        ),
        ({"SIGNING_KEYS": f"shop={KEY}"}, "signing: key 1 is tied to shop, which is no source; known: photos"),
        (
            {"SIGNING_SIGNATURE_BYTES": "8"},
            f'IMGSERVER_SIGNING_SIGNATURE_BYTES: "8" is not allowed; {allowed("signing.signature_bytes")}',
        ),
        ({"NATIVE_SNAP_WIDTHS": "200,100"}, "native: snap_widths must ascend, each width once"),
        ({"NATIVE_SNAP_WIDTHS": "100,9000"}, "native: snap_widths goes up to 9000, beyond max_side, 8192"),
        (
            {"NATIVE_SNAP_WIDTHS": "1,x"},
            f'IMGSERVER_NATIVE_SNAP_WIDTHS: "1,x" is not allowed; {allowed("native.snap_widths")}',
        ),
        (
            {"PRESETS_CARD": "w_0"},
            'presets.card: w: "0" is not allowed; whole pixels 1-8192 or a fraction 0.0001-1.0, '
            "written with a decimal point",
        ),
    ],
)
def test_invalid_keys_widths_and_presets_are_refused(environ: dict[str, str], fault: str) -> None:
    assert faults_of(None, {f"IMGSERVER_{name}": value for name, value in environ.items()}) == (fault,)


def test_an_error_does_not_show_a_secret(toml: Path) -> None:
    toml.write_text(f'[signing]\nkeys = {{ a = "{KEY}" }}\n[admin]\nkey = 12345678901234567890')

    faults = faults_of(toml)
    assert len(faults) == 2 and all("(hidden) is not allowed" in fault for fault in faults)


def test_every_invalid_preset_is_reported_and_valid_ones_are_loaded(toml: Path) -> None:
    toml.write_text('[presets]\ncard = "w_9/q_8"\nBig = "w_9"\nbad = "w_0"\nworse = "t_card"\nwrong = 5')
    assert len(faults_of(toml)) == 4
    toml.write_text('[presets]\ncard = "w_9/q_8"\nbad = "w_0"\nworse = "t_card"')
    assert [fault.partition(": ")[0] for fault in faults_of(toml)] == [f"{toml}:3:1", f"{toml}:4:1"]

    toml.write_text('[presets]\ncard = "w_9/q_8"')
    loaded = load(toml, {"IMGSERVER_PRESETS_FRONT_PAGE": "w_7"}, {})
    assert loaded.settings.presets == {"card": "w_9/q_8", "front-page": "w_7"}
    assert str(loaded.origins["presets.front-page"]) == "env IMGSERVER_PRESETS_FRONT_PAGE"
