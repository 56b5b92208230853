"""The documents of the repository are true: commands, links, settings, samples and pins exist."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from imgserver import __version__
from imgserver.cli import main
from imgserver.settings.names import hints, meaning_of, patterns, section_meaning, values, variable
from imgserver.settings.reference import markdown, sample
from imgserver.settings.schema import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")

SAMPLES = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "autumn.jpg": "66268e7b48f8854d36a28765fac6e23ec1aee251daa6da1f64715f201020ad36",
    "cat.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "creek.jpg": "4c119350ead80201fe256850c3d316309ddfb4bdf10b235ce982dcde0c667c05",
    "dandelion.jpg": "a5634d1ab5e41a3568e92d4a894a500c92b891f9ff734e50bd224d6e185a605f",
    "dogs.jpg": "cc40e313c74e421edffe3403def413c16878ce14661cce7ec5915baeab35538d",
    "mountains.jpg": "414d0072b2f6f2c555deafeaef6e45c4fed6fa9ad26eba6560ca8803959cf97a",
    "sunset.jpg": "474dab6a4b9f94dc76c29dfe30e9f5db4af0fd2e33fe5d695f8152b371efca18",
}


def targets() -> dict[str, str]:
    listed = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(re.findall(r"^  make (\w+) +(.+)$", listed.stdout, re.MULTILINE))


def test_make_without_a_target_lists_the_targets() -> None:
    expected = {"install", "serve", "test", "lint", "type", "imports", "bench", "quality", "clean"}

    assert expected <= set(targets())


def test_the_readme_begins_with_the_two_commands() -> None:
    first = README.split("```")[1]

    assert [line.split("#")[0].strip() for line in first.splitlines()[1:]] == ["make serve", "make test"]


def test_every_make_target_in_the_documents_exists() -> None:
    known = {*targets(), "lists"}  # "`make` lists the targets"

    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert set(re.findall(r"`make (\w+)", page.read_text("utf-8"))) <= known, page


def test_every_local_link_of_the_readme_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)

    assert [link for link in links if not (ROOT / link).exists()] == []


def targets_of_the_readme() -> list[str]:
    return re.findall(r"^\| `([^`]+\.(?:jpg|png))` \|", README.split("## URLs")[1].split("## Command")[0], re.MULTILINE)


def test_the_readme_has_urls_to_try() -> None:
    assert len(targets_of_the_readme()) >= 10


@pytest.mark.parametrize("target", targets_of_the_readme())
def test_every_url_of_the_readme_renders_a_sample(target: str, tmp_path: Path) -> None:
    file = tmp_path / "out"

    result = CliRunner().invoke(main, ["get", f"/img/{target}", "--root", str(ROOT / "samples"), "-o", str(file)])

    assert result.exit_code == 0, result.output
    assert file.stat().st_size > 100


def test_every_command_and_option_of_the_readme_exists() -> None:
    rows = re.findall(r"^\| `imgserver ([\w-]+)([^`]*)` \|", README, re.MULTILINE)

    for name, rest in rows:
        known = {option for row in main.commands[name].params for option in row.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, name
    assert {name for name, _ in rows} == set(main.commands)


def command_lines(group: click.Group, *before: str) -> Iterator[list[str]]:
    for name, command in group.commands.items():
        yield [*before, name]
        if isinstance(command, click.Group):
            yield from command_lines(command, *before, name)


@pytest.mark.parametrize("line", [*command_lines(main)], ids=" ".join)
def test_the_help_of_every_command_has_examples_and_exit_codes(line: list[str]) -> None:
    shown = CliRunner().invoke(main, [*line, "--help"]).output

    assert "Example" in shown
    assert "Exit codes: 0" in shown


def test_no_summary_in_a_list_of_commands_is_cut_off() -> None:
    groups = [[], *(line for line in command_lines(main) if len(line) == 1)]

    assert [
        line
        for line in groups
        if "..." in CliRunner().invoke(main, [*line, "--help"]).output.partition("\nCommands:")[2]
    ] == []


def test_the_sample_file_is_the_one_the_command_prints() -> None:
    assert (ROOT / "config" / "imgserver.toml").read_text("utf-8") == sample()


def test_the_settings_page_is_the_one_the_command_prints() -> None:
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == markdown()


def test_every_setting_and_section_has_a_meaning() -> None:
    assert [name for name in {*hints(), *patterns()} if not meaning_of(name)] == []
    assert all(map(section_meaning, Settings.__dataclass_fields__))
    assert set(values(Settings())) == set(hints())


def test_every_variable_of_the_documents_exists() -> None:
    known = {variable(name) for name in hints()} | {"IMGSERVER_CONFIG"}
    tables = {variable(name).partition("<NAME>")[0].rstrip("_") for name in patterns()}

    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"\bIMGSERVER_[A-Z_]*[A-Z]\b", page.read_text("utf-8")))
        assert all(name in {*known, "IMGSERVER_"} or name.startswith(tuple(tables)) for name in named), page


def test_the_changelog_names_this_version() -> None:
    assert __version__ in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    from packaging.requirements import Requirement

    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = [setup["options"]["install_requires"], setup["options.extras_require"]["test"]]
    pins = dict(
        re.findall(
            r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text().lower().replace("_", "-"), re.MULTILINE
        )
    )

    for line in "\n".join(wanted).splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.specifier.contains(pins[requirement.name]), line


def test_ci_runs_the_readmes_test_command() -> None:
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("line", (ROOT / "samples" / "ATTRIBUTION.md").read_text("utf-8").splitlines()[6:])
def test_each_sample_is_unchanged_and_attributed(line: str) -> None:
    name, _, license, *_ = (cell.strip() for cell in line.strip("|").split("|"))

    assert license
    assert hashlib.sha256((ROOT / "samples" / name).read_bytes()).hexdigest() == SAMPLES[name]


def test_every_sample_is_in_the_attribution() -> None:
    assert {path.name for path in (ROOT / "samples").iterdir()} == {*SAMPLES, "ATTRIBUTION.md"}


def test_the_server_process_never_loads_libvips() -> None:
    """A process that has used libvips must not fork, and untrusted images are decoded in workers only."""
    code = "import imgserver.cli.serve, imgserver.web.server, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "imgserver.web.app" in loaded
    assert {"pyvips", "_libvips", "imgserver.engine.vips", "_pi_heif", "pi_heif", "numpy", "PIL"} & set(loaded) == set()
