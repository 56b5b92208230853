"""Receives the body of an upload without a connection: pieces of a form in, its images and fields out."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgserver.errors import ImgserverError
from imgserver.rendering.upload_admission import UploadAdmission, UploadSettings
from imgserver.web.uploads.multipart import BodyFormat, ReceivedUpload
from imgserver.web.uploads.temp_files import TempFile, TempFiles

SETTINGS = UploadSettings(max_parts=6, max_body_bytes=64 * 1024)
FORM = BodyFormat("cut")
# (images with their names and bytes, fields), or (class of the error, its facts). When a form has several faults, it
# depends on the split which of them the parser meets first.
Outcome = tuple[object, ...]


class SplitBody:
    """A fake UploadBody that returns the given pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    async def read(self) -> bytes:
        return next(self._pieces, b"")


class Receiver:
    """Receives uploads into temporary files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.admission = UploadAdmission(SETTINGS)
        self._temp_files = TempFiles(folder, self.admission)
        self._folder = folder

    async def receive(self, pieces: Sequence[bytes]) -> Outcome:
        try:
            async with ReceivedUpload(self._temp_files, SETTINGS) as upload:
                await upload.receive(FORM, SplitBody(pieces))  # type: ignore[arg-type]
                images = [(image.name, await read(image.file)) for image in upload.images]
                return images, upload.fields
        except ImgserverError as error:
            return type(error), error.facts
        finally:
            assert self.admission.statistics().space_bytes == 0

    async def close(self) -> None:
        """Checks that every file is closed and that none had a name."""
        await self._temp_files.close()
        assert list(self._folder.iterdir()) == []
        assert not [name for name in open_files() if str(self._folder) in name]


async def read(file: TempFile) -> bytes:
    return Path((await file.original()).path).read_bytes()


def open_files() -> list[str]:
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(descriptor.readlink()))
        except OSError:
            continue
    return names


def equivalent(outcome: Outcome) -> Outcome:
    """The part of an outcome that must not depend on how the form is split."""
    return ("refused",) if isinstance(outcome[0], type) else outcome


def split(body: bytes, at: Iterable[int]) -> list[bytes]:
    """The pieces of `body` between the offsets in `at`, which are taken modulo its length."""
    offsets = sorted({0, len(body), *(one % (len(body) + 1) for one in at)})
    return [body[start:end] for start, end in itertools.pairwise(offsets)]
