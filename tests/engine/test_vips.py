"""The import rule of pyvips, the version check and the translation of errors."""

import errno
import re
import sys
from pathlib import Path

import pytest

from imgserver.engine import vips
from imgserver.engine.header import examine
from imgserver.engine.job import Limits
from imgserver.errors import BrokenImage, ImageOverLimit, NotFound, ServerFault, Unavailable

PACKAGE = Path(vips.__file__).parents[1]


def test_a_libvips_with_known_vulnerabilities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vips.pyvips, "version", lambda part: (8, 18, 2)[part])

    with pytest.raises(ServerFault, match=r"8\.18\.2 has known vulnerabilities; at least 8\.18\.3"):
        vips.open_engine()


@pytest.mark.parametrize(("library", "importer"), [("pyvips", "vips.py"), ("_?pi_heif", "heif.py")])
def test_one_module_imports_each_decoder(library: str, importer: str) -> None:
    importing = re.compile(rf"^\s*(?:import|from) {library}\b", re.MULTILINE)
    importers = [path.name for path in PACKAGE.rglob("*.py") if importing.search(path.read_text("utf-8"))]

    assert importers == [importer]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VipsJpeg: premature end of JPEG image", BrokenImage),
        ("unable to call pngload\n  out of memory -- size == 190MB", ImageOverLimit),
        ("vipspng: out of order read at line 300", ServerFault),
    ],
)
def test_an_error_while_reading_means_a_broken_original(text: str, expected: type[Exception]) -> None:
    with pytest.raises(expected), vips.reading():
        raise vips.Error(text)


def test_an_error_while_building_is_a_server_fault_without_file_names() -> None:
    with pytest.raises(ServerFault) as caught, vips.working():
        raise vips.Error("/srv/photos/a.jpg: no such thing")
    assert "a.jpg" not in caught.value.detail


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.EIO, Unavailable), (errno.ESTALE, Unavailable), (errno.ENOENT, NotFound), (errno.EACCES, NotFound)],
)
def test_an_error_of_the_file_system_while_reading_says_nothing_about_the_image(
    number: int, expected: type[Exception]
) -> None:
    with pytest.raises(expected), vips.reading():
        raise OSError(number, "")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc has a file whose bytes cannot be read")
def test_a_file_whose_bytes_cannot_be_read_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        examine("/proc/self/mem", Limits())
