"""What `imgserver serve` refuses beyond the settings themselves: folders, sources, files and names that they lead to.

`imgserver config check` reports the same faults. Each part is built as at the start of the server, and thrown away.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from imgserver.errors import ImgserverError, ServerFault
from imgserver.observability.audit import discard_event
from imgserver.observability.metrics import Metrics
from imgserver.rendering.upload_admission import UploadAdmission
from imgserver.settings import policy_file
from imgserver.settings.schema import DefaultSource, Settings
from imgserver.web.bootstrap.cache import make_cache
from imgserver.web.bootstrap.dialects import Dialects
from imgserver.web.bootstrap.sources import make_remote, make_source, source_configs
from imgserver.web.server import require_c_parser
from imgserver.web.uploads.store import check_store
from imgserver.web.uploads.temp_files import TempFiles


def find_faults(settings: Settings, *, root_from: str) -> list[str]:
    """Every reason for which the server would not start, as a sentence. The port and the workers are not tried.
    `root_from` is the origin of the setting `source.root`."""
    return list(dict.fromkeys(fault for build in _parts(settings, root_from) for fault in _faults(build)))


def _parts(settings: Settings, root_from: str) -> Iterator[Callable[[], object]]:
    yield require_c_parser
    yield partial(_check_folder, settings.source, root_from)
    for name, config in source_configs(settings).items():
        if config is not settings.source or config.folder is None or config.folder.is_dir():
            yield partial(make_source, name, settings, discard_event)
    yield partial(make_remote, settings, discard_event)
    yield partial(make_cache, settings, Metrics(), lambda _: None)
    yield partial(Dialects.of, settings)
    if settings.security.policy != Path():
        yield partial(policy_file.load, settings.security.policy)
    if settings.uploads.access != "off":
        yield partial(TempFiles, settings.uploads.temp_path, UploadAdmission(settings.uploads))
        yield partial(check_store, settings.uploads.store, source_configs(settings))


def _check_folder(source: DefaultSource, root_from: str) -> None:
    """Raises ServerFault for a mistyped folder, and says where it was written."""
    root = source.folder
    if root is not None and not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise ServerFault(f"{root} {what} (source.root, from {root_from}); name the folder with the originals")


def _faults(build: Callable[[], object]) -> list[str]:
    try:
        build()
    except ImgserverError as error:
        return error.detail.splitlines()
    except (ValueError, OSError) as error:
        return [ServerFault(str(error)).detail]
    return []
