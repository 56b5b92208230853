"""The source that `store=` writes results to, and the URLs of the stored results."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from imgserver.dialects.native import NativeDialect
from imgserver.errors import BadRequest, NotFound, ServerFault
from imgserver.plan.plan import SourceRef
from imgserver.sources import Source
from imgserver.sources.config import SourceConfig
from imgserver.web.bootstrap.sources import Sources


@dataclass(frozen=True, slots=True)
class UploadStore:
    """`on_write` is called for each original that was written."""

    source: Source
    name: str
    dialect: NativeDialect
    on_write: Callable[[SourceRef], None]

    @classmethod
    def of(
        cls, sources: Sources, name: str, dialect: NativeDialect, on_write: Callable[[SourceRef], None]
    ) -> "UploadStore | None":
        """The store in the source with this name; None for an empty name. Raises ServerFault for a source that does
        not exist or cannot be written to."""
        if not name:
            return None
        _refuse(name, is_known=name in sources.by_name, is_writable=name in sources.writable, known=sources.by_name)
        return cls(sources.by_name[name], name, dialect, on_write)

    def url(self, path: str) -> str:
        """The URL of a result at this path, unsigned. Raises BadRequest, BadSourcePath and BadOption for a path that
        no URL can name."""
        if any(part.startswith(".") for part in path.split("/")):
            raise BadRequest("store: no part of the path may begin with a dot", argument="store", value=path[:200])
        return self.dialect.build(SourceRef(self.name, path))

    async def write(self, path: str, body: bytes, *, replace: bool) -> str:
        """Stores a result and returns its URL. Raises what `url` and `Source.store` raise, and BadRequest for a path
        that the source cannot create."""
        url = self.url(path)
        try:
            await self.source.store(path, body, replace=replace)
        except NotFound as error:
            detail = "store: the source cannot create a file at this path"
            raise BadRequest(detail, argument="store", value=path[:200]) from error
        self.on_write(SourceRef(self.name, path))
        return url


def check_store(name: str, configs: Mapping[str, SourceConfig]) -> None:
    """Raises ServerFault for the name of a source that does not exist or is not writable; "" names none."""
    if name:
        config = configs.get(name)
        _refuse(name, is_known=config is not None, is_writable=config is not None and config.writable, known=configs)


def _refuse(name: str, *, is_known: bool, is_writable: bool, known: Iterable[str]) -> None:
    if not is_known:
        raise ServerFault(f"uploads.store: {name} is not a source; the sources are {', '.join(known)}")
    if not is_writable:
        raise ServerFault(f"uploads.store: {name} is not writable")
