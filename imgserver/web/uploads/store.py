"""The source that `store=` writes results to, and the URLs of the stored results."""

from collections.abc import Callable
from dataclasses import dataclass

from imgserver.dialects.native import NativeDialect
from imgserver.errors import BadRequest, NotFound, ServerFault
from imgserver.plan.plan import SourceRef
from imgserver.sources import Source
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
        source = sources.by_name.get(name)
        if source is None or name not in sources.writable:
            problem = "is not writable" if source else f"is not a source; the sources are {', '.join(sources.by_name)}"
            raise ServerFault(f"uploads.store: {name} {problem}")
        return cls(source, name, dialect, on_write)

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
