"""Odd and hostile images from the source archives of Pillow and pillow-heif.

pip downloads the archives once and checks their digests. They are stored outside the repository.
`python -m tests.corpus` fetches them before the tests, and fails if it cannot.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DOWNLOAD_SECONDS = 240


class NotFetchedError(Exception):
    """The archive cannot be downloaded; the message says why."""


@dataclass(frozen=True, slots=True)
class Archive:
    """`folder`: the folder of the images inside the archive."""

    name: str
    version: str
    sha256: str
    folder: str

    @property
    def file(self) -> Path:
        return cache() / f"{self.name.replace('-', '_')}-{self.version}.tar.gz"


ARCHIVES = (
    Archive(
        "pillow",
        "13.0.0",
        "cdcd1ba258178f7356d74170c9a81ba4eab6a5d55748bc402a5a2a6fe6be3510",
        "Tests/images",
    ),
    Archive(
        "pillow-heif",
        "1.8.1",
        "521ebffb8a181d56c3904e5a61f20903edee0d9d3275967b8fb345f866215c06",
        "tests/images",
    ),
)


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imgserver-tests"


def fetch(archive: Archive) -> None:
    """Returns immediately if the archive is there. Raises NotFetchedError."""
    if archive.file.exists():
        return
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as scratch:
        wanted = Path(scratch) / "requirements"
        wanted.write_text(f"{archive.name}=={archive.version} --hash=sha256:{archive.sha256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "1", "--no-deps"]
        ask = [*pip, "--no-binary", archive.name, "--dest", scratch, "--requirement", str(wanted)]
        try:
            done = subprocess.run(ask, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise NotFetchedError(f"{archive.file.name}: not within {DOWNLOAD_SECONDS} s") from error
        found = Path(scratch) / archive.file.name
        if not found.exists():
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip printed no error"]
            raise NotFetchedError(f"{archive.file.name}: {said[0]}")
        found.replace(archive.file)


def images(archive: Archive) -> Iterator[tuple[str, bytes]]:
    """(name, body) of each image. Names are safe in a flat folder: paths of the archive are never used to write."""
    with tarfile.open(archive.file) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or not path.is_relative_to(archive.folder) or path.suffix in (".py", ".txt", ".md"):
                continue
            body = tar.extractfile(member)
            assert body is not None
            name = re.sub(r"[^A-Za-z0-9._-]", "_", str(path.relative_to(archive.folder)))
            yield f"{archive.name}__{name}", body.read()


def main() -> None:
    for archive in ARCHIVES:
        try:
            fetch(archive)
        except NotFetchedError as error:
            sys.exit(f"NOT FETCHED: {error}")
        sys.stdout.write(f"{archive.file.name} is here\n")


if __name__ == "__main__":
    main()
