"""Any content of a settings file or a policy file is either loaded or refused with BadSettings or BadPolicy."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.settings.loader import BadSettings, load
from imgserver.settings.names import hints
from imgserver.settings.policy_file import BadPolicy
from imgserver.settings.policy_file import load as load_policy
from tests.running_server import ROOT

SAMPLE = (ROOT / "config" / "imgserver.toml").read_bytes()
POLICY = (ROOT / "config" / "security.yaml").read_bytes()
TOML = (
    b"[",
    b"]",
    b"[[",
    b"=",
    b'"',
    b"'",
    b"\n",
    b"{",
    b"}",
    b"1e999",
    b"nan",
    b"true",
    b"1979-05-27",
    b"[server]",
    b"\x00",
    b"\xff",
    b".",
    b"#",
)
YAML = (
    b"[",
    b"]",
    b"{",
    b"}",
    b": ",
    b"- ",
    b"\n",
    b"  ",
    b"&a",
    b"*a",
    b"!!python/object:os.system",
    b"|",
    b"'",
    b'"',
    b"\t",
    b"\xff",
    b"%",
    b"?",
    b"---",
    b"<<",
    b"\xef\xbb\xbf",
)
WORDS = (
    b"clients",
    b"deny",
    b"allow",
    b"rates",
    b"pictures",
    b"per_second",
    b"burst",
    b"10.0.0.0/8",
    b"::1/64",
    b"-1",
    b"1e400",
)
VALUES = (
    "",
    "1",
    "-1",
    "0",
    "true",
    "nan",
    "1e999",
    "9" * 400,
    "a,b",
    "8MiB",
    "\x00",
    "é",
    "{}",
    "[]",
    "[1, 2]",
    "1.5",
    "/",
    "http://[",
)


@pytest.fixture(scope="module")
def file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "file"


@st.composite
def mutated(draw: st.DrawFn, text: bytes, fragments: tuple[bytes, ...]) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from((0, 0, 1, 3, 20, 400))))
        text = text[:start] + draw(st.sampled_from(fragments) | st.binary(max_size=4)) + text[end:]
    return text


def concatenated(words: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(words), max_size=25).map(b"".join)


settings_text = st.binary(max_size=200) | mutated(SAMPLE.replace(b"\n# ", b"\n"), TOML) | concatenated(TOML)
policy_text = (
    st.binary(max_size=200)
    | mutated(POLICY, YAML)
    | mutated(POLICY.replace(b"\n#", b"\n"), YAML)
    | concatenated(YAML + WORDS)
)


@given(settings_text)
def test_any_bytes_are_loaded_as_settings_or_refused(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    try:
        load(file, {}, {})
    except BadSettings as error:
        assert error.facts["faults"] and all(str(file) in fault or fault for fault in error.facts["faults"])


@given(policy_text)
def test_any_bytes_are_loaded_as_a_policy_or_refused(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    try:
        load_policy(file)
    except BadPolicy as error:
        assert error.facts["faults"] and all(fault.startswith(str(file)) for fault in error.facts["faults"])


names = st.sampled_from(sorted(name for name in hints() if "*" not in name))


@given(st.dictionaries(names, st.sampled_from(VALUES) | st.text(max_size=20), max_size=5))
def test_any_text_in_a_variable_is_loaded_or_refused(chosen: dict[str, str]) -> None:
    try:
        load(None, {"IMGSERVER_" + name.upper().replace(".", "_"): value for name, value in chosen.items()}, {})
    except BadSettings as error:
        assert error.facts["faults"]


toml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(names, toml_values, max_size=4))
def test_any_type_of_value_is_loaded_or_refused(chosen: dict[str, object]) -> None:
    try:
        load(None, {}, chosen)
    except BadSettings as error:
        assert error.facts["faults"]
