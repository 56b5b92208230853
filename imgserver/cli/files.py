"""Files that commands write: whole or not at all."""

import os
import shutil
from pathlib import Path


def replace_file(file: Path, body: bytes) -> None:
    """Whoever reads it meanwhile sees the old file or the new one, which keeps the old one's permissions."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(body)
        if file.exists():
            shutil.copymode(file, part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
