"""Words and truth values as people write them in variables and files."""

import typing
from pathlib import Path

import pytest

from imgserver.settings.loader import BadSettings, load
from imgserver.settings.names import bare, hints, values, variable

WORDS = [
    (name, word)
    for name, hint in hints().items()
    if typing.get_origin(bare(hint)) is typing.Literal
    for word in typing.get_args(bare(hint))
]
SWITCHES = [name for name, hint in hints().items() if bare(hint) is bool]
# Modes that conflict with the defaults of other settings.
NEEDED = {"signing.mode": {"IMGSERVER_SIGNING_KEYS": bytes(range(32)).hex()}}


def value_of(name: str, text: str) -> object:
    loaded = load(None, {variable(name): text, **NEEDED.get(name, {})}, {})
    return values(loaded.settings)[name]


@pytest.mark.parametrize(("name", "word"), WORDS)
def test_every_word_is_accepted_in_any_case(name, word):
    assert {value_of(name, text) for text in (word, word.upper(), word.capitalize(), f" {word} ")} == {word}


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_takes_the_usual_truth_values(name):
    assert {value_of(name, text) for text in ("true", "True", "TRUE", "1", "yes", "Yes", "ON", " true ")} == {True}
    assert {value_of(name, text) for text in ("false", "False", "0", "no", "NO", "off", "Off")} == {False}


@pytest.mark.parametrize(("name", "word"), [one for one in WORDS if one[1] in ("on", "off")])
def test_on_and_off_among_other_words_are_truth_values_too(name, word, tmp_path: Path):
    texts = ("true", "True", "1", "yes") if word == "on" else ("false", "False", "0", "no")
    assert {value_of(name, text) for text in texts} == {word}

    section, _, key = name.partition(".")
    file = tmp_path / "imgserver.toml"
    file.write_text(f"[{section}]\n{key} = {'true' if word == 'on' else 'false'}\n")
    assert values(load(file, {}, {}).settings)[name] == word


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.level", "loud"),
        ("log.level", "true"),
        ("uploads.access", "true"),
        ("limits.svg", "2"),
        ("limits.svg", "perhaps"),
        ("server.gallery", ""),
        ("server.gallery", "2"),
        ("server.port", "true"),
    ],
)
def test_other_texts_are_refused(name, text):
    with pytest.raises(BadSettings):
        value_of(name, text)
