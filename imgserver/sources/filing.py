"""Files written whole or not at all."""

import errno
import os
from contextlib import suppress
from itertools import count
from pathlib import Path

from imgserver.errors import Conflict, ImgserverError, NotFound, Unavailable
from imgserver.shards import write_all

MODE = 0o644

# The name is at fault, not the disk.
_NO_NAME = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
_numbers = count()


def file(path: Path, body: bytes, *, replace: bool) -> None:
    """Into a folder that is made if it is not there. Conflict: such a file is there, and is not to be replaced;
    NotFound: nothing can have this name; Unavailable: the disk does not take it. A file in the place of one of its
    folders is none of ours to judge, and counts as no such name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotFound() if isinstance(error, FileExistsError) else _translated(error) from error
    temporary = path.with_name(f".{os.getpid()}-{next(_numbers)}.coming")
    try:
        _write(temporary, body)
        if replace:
            temporary.replace(path)
        else:  # a link never takes another's place
            os.link(temporary, path)
    except OSError as error:
        raise _translated(error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write(path: Path, body: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    with open(descriptor, "wb", buffering=0) as written:  # noqa: PTH123
        write_all(written, body)
        os.fsync(descriptor)


def _translated(error: OSError) -> ImgserverError:
    if isinstance(error, FileExistsError):
        return Conflict()
    if error.errno in _NO_NAME:
        return NotFound()
    return Unavailable("The disk does not take the file", reason="disk", retry_after=5)
