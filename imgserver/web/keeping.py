"""Where a server keeps its files when nobody says where: in the user's caches, in a folder of this configuration."""

import os
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir

from imgserver.settings.schema import Settings


def own_folder(settings: Settings) -> Path:
    """For what this default source's server keeps alone (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(base) / "imgserver" / sha256(settings.source.identity.encode()).hexdigest()[:16]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container's user may have none
        return Path(gettempdir())
