"""The targets of the Makefile that take variables, with an `imgserver` that prints its arguments."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running_server import ROOT


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("a clone")
    program = folder / ".venv/bin/imgserver"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
        os.utime(folder / name, (0, 0))
    (folder / ".venv/installed").touch()
    return folder


@pytest.mark.parametrize(
    ("variables", "port", "source"),
    [
        ([], "8080", "samples"),
        (["DIR=my photos", "PORT=9000"], "9000", "my photos"),
        (["DIR=two  spaces"], "8080", "two  spaces"),
        (["DIR=o'neil's \"best\"; `date` $$HOME"], "8080", "o'neil's \"best\"; `date` $HOME"),
        (["DIR=-photos"], "8080", "-photos"),
        (["DIR=~/my photos"], "8080", "/home/anna/my photos"),
        (["DIR=~"], "8080", "/home/anna"),
        (["DIR=s3://bucket/photos"], "8080", "s3://bucket/photos"),
    ],
)
def test_make_serve_passes_any_folder_on(project, variables, port, source):
    done = subprocess.run(
        ["make", "serve", *variables],
        cwd=project,
        env={"PATH": os.environ["PATH"], "HOME": "/home/anna"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == ["serve", "--port", port, "--", source]
