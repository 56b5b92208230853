"""Codecs and fonts are checked by using them."""

from pathlib import Path

from imgserver.cli.checks import Check, codecs
from imgserver.engine.job import Job
from imgserver.errors import NotInThisBuild, UnsupportedImage


def check_named(name: str) -> Check:
    return next(check for check in codecs.run() if check.name == name)


def test_a_failing_codec_must_be_repaired(tmp_path: Path) -> None:
    def render(job: Job) -> bytes:
        raise NotInThisBuild("this build cannot write avif")

    check = codecs._codec("avif", tmp_path / "a.png", render)

    assert (check.ok, check.needed, check.found) == (False, True, "this build cannot write avif")


def test_heic_is_read_or_its_extra_is_named(tmp_path: Path) -> None:
    def refuse(job: Job) -> bytes:
        raise UnsupportedImage("heic is not read here")

    assert check_named("codec heic").found == "reads"
    check = codecs._heic(tmp_path, refuse)
    assert (check.ok, check.needed, check.fix) == (False, False, "pip install 'imgserver[heic]'")


def test_bmp_is_read(tmp_path: Path) -> None:
    def refuse(job: Job) -> bytes:
        raise UnsupportedImage("bmp is not read here")

    assert check_named("codecs bmp, ico").found == "reads"
    assert codecs._bmp(tmp_path, refuse).ok is False


def test_fonts_are_missing_if_text_changes_nothing(tmp_path: Path) -> None:
    assert codecs._fonts(tmp_path, lambda job: b"the same image with and without text").ok is False
    assert codecs._fonts(tmp_path, lambda job: Path(job.path).read_bytes()).ok is True
