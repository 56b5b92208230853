"""The sources of a configuration, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from imgserver.settings import Settings
from imgserver.sources import Source
from imgserver.sources.folder import Folder


@dataclass(frozen=True, slots=True)
class Sources:
    """`folder` is the default source, of which the gallery shows the pictures."""

    by_name: Mapping[str, Source]
    folder: Folder

    def close(self) -> None:
        for source in self.by_name.values():
            if isinstance(source, Folder):
                source.close()


def make_sources(settings: Settings) -> Sources:
    """Raises ServerFault where a folder is none."""
    folder = Folder(settings.source.root)
    others = {name: Folder(source.root) for name, source in settings.sources.items()}
    return Sources({settings.source.name: folder, **others}, folder)
