"""Every command line `imgserver ...` of the documentation and of the help works."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from imgserver.cli import main
from tests.running_server import ROOT, SAMPLES

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# Need no server and little time, so they are run. The others are parsed: they wait, need a server, or write files.
RUN = ("url", "get", "inspect", "keys", "api-keys", "config")
KEY = bytes(range(32)).hex()

_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`(imgserver [^`\n]+)`")
# A synopsis, not a command line.
_PLACEHOLDER = re.compile(r"[\[\]|]|\.\.\.|\b[A-Z]{3,}\b")
_ASSIGNMENT = re.compile(r"([A-Z_]+)=(.*)", re.DOTALL)


def commands_of(line: str) -> Iterator[tuple[dict[str, str], tuple[str, ...]]]:
    """The variables and the arguments of each imgserver in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "&&"]:
        if not set(word) <= set("|&;<>"):
            words.append(word)
            continue
        variables = {}
        while words and (found := _ASSIGNMENT.fullmatch(words[0])):
            variables[found[1]] = found[2]
            del words[0]
        if words and words[0] == "imgserver":
            yield variables, tuple(words[1:])
        words = []


def documented() -> Iterator[tuple[str, bool, dict[str, str], tuple[str, ...]]]:
    """A name, whether the line stands alone and not in a sentence, the variables and the arguments."""
    for page in PAGES:
        text = page.read_text("utf-8")
        lines = [line for block in _BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        spans = [span for span in _SPAN.findall(text) if not _PLACEHOLDER.search(span)]
        for line in [*lines, *spans]:
            for variables, arguments in commands_of(line):
                yield f"{page.name}: {' '.join(arguments)}", line in lines, variables, arguments
    for name, command in every_command(main, "imgserver"):
        examples = re.search(r"Examples?:\n(.*?)(?:\n\n|\Z)", command.help or "", re.DOTALL)
        for line in examples[1].splitlines() if examples else ():
            for variables, arguments in commands_of(line):
                yield f"{name} --help: {' '.join(arguments)}", True, variables, arguments


def every_command(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = list(documented())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The files that the command lines name."""
    found = tmp_path_factory.mktemp("documented")
    for name in ("samples", "photos"):
        shutil.copytree(SAMPLES, found / name)
    shutil.copytree(ROOT / "config", found / "config")
    (found / "team").mkdir()
    for name in ("cat.png", "sunset.jpg", "photo.jpg", "party.gif"):
        sample = SAMPLES / name if (SAMPLES / name).exists() else SAMPLES / "creek.jpg"
        shutil.copy(sample, found / name)
        shutil.copy(sample, found / "photos" / name)
    settings = f'[signing]\nkeys = ["{KEY}"]\n[remote]\nenabled = true\nallowed_urls = ["https://cdn.example.com/"]\n'
    for name in ("imgserver.toml", "imgserver.new.toml"):
        (found / name).write_text(settings)
    return found


def parse(command: click.Command, name: str, arguments: list[str], parent: click.Context | None = None) -> None:
    """Raises UsageError for a wrong command line."""
    context = command.make_context(name, list(arguments), parent=parent)
    rest = [*context._protected_args, *context.args]
    if isinstance(command, click.Group) and rest:
        found, inner, rest = command.resolve_command(context, rest)
        assert found is not None
        assert inner is not None
        parse(inner, found, rest, context)


def test_the_documentation_has_command_lines():
    names = {arguments[0] for *_, arguments in COMMANDS if arguments}

    assert len(COMMANDS) > 60
    assert names >= set(main.commands)


def _files_of(word: str) -> list[str]:
    """What the shell makes of a word with an asterisk."""
    return sorted(map(str, Path().glob(word))) if "*" in word else [word]


@pytest.mark.parametrize(
    ("is_whole", "variables", "arguments"), [one[1:] for one in COMMANDS], ids=[one[0] for one in COMMANDS]
)
def test_a_documented_command_line_works(folder, monkeypatch, is_whole, variables, arguments):
    monkeypatch.chdir(folder)
    arguments = [name for word in arguments for name in _files_of(word)]
    try:
        parse(main, "imgserver", arguments)
    except click.MissingParameter:
        # A part of a command line in the middle of a sentence.
        assert is_whole is False
        return
    downloads = arguments and arguments[0] != "url" and any("://" in word for word in arguments)
    if not arguments or arguments[0] not in RUN or downloads:
        return
    environ = {"IMGSERVER_SIGNING_KEYS": KEY, "IMGSERVER_REMOTE_ALLOWED_URLS": "https://cdn.example.com/", **variables}
    result = CliRunner().invoke(main, list(arguments), env=environ)

    assert (result.exit_code, result.stderr if result.exit_code else "") == (0, "")
