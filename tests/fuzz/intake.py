"""An intake without a connection: a form's pieces in, what came of them out."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgserver.errors import ImgserverError
from imgserver.rendering.upload_admission import Uploads, UploadSettings
from imgserver.web.uploads.multipart import BodyFormat, ReceivedUpload
from imgserver.web.uploads.temp_files import TempFile, TempFiles

SETTINGS = UploadSettings(max_parts=6, max_body_bytes=64 * 1024)
KIND = BodyFormat("cut")
# What came out of a form: pictures with their names and bytes, and fields; or the error's kind and facts. Of several
# faults, which one the parser meets first depends on where it is cut.
Outcome = tuple[object, ...]


class Pieces:
    """Stands for Body: pieces instead of a connection."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    async def read(self) -> bytes:
        return next(self._pieces, b"")


class Place:
    """Where the files of one test lie."""

    def __init__(self, folder: Path) -> None:
        self.uploads = Uploads(SETTINGS)
        self._temp_files = TempFiles(folder, self.uploads)
        self._folder = folder

    async def taken(self, pieces: Sequence[bytes]) -> Outcome:
        try:
            async with ReceivedUpload(self._temp_files, SETTINGS) as intake:
                await intake.receive(KIND, Pieces(pieces))  # type: ignore[arg-type]
                pictures = [(one.name, await read(one.file)) for one in intake.images]
                return pictures, intake.fields
        except ImgserverError as error:
            return type(error), error.facts
        finally:
            assert self.uploads.statistics().space_bytes == 0

    async def close(self) -> None:
        """Every file is closed, and has never had a name."""
        await self._temp_files.close()
        assert list(self._folder.iterdir()) == []
        assert not [name for name in descriptors() if str(self._folder) in name]


async def read(file: TempFile) -> bytes:
    return Path((await file.original()).path).read_bytes()


def descriptors() -> list[str]:
    names = []
    for one in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(one.readlink()))
        except OSError:
            continue
    return names


def meaning(outcome: Outcome) -> Outcome:
    """The same for every way to cut a form."""
    return ("refused",) if isinstance(outcome[0], type) else outcome


def cut(body: bytes, at: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(body), *(one % (len(body) + 1) for one in at)})
    return [body[start:end] for start, end in itertools.pairwise(places)]
