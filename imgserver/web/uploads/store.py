"""Where results of uploads are kept, and how a URL asks for them afterwards."""

from collections.abc import Callable
from dataclasses import dataclass

from imgserver.dialects.native import NativeDialect
from imgserver.errors import BadRequest, NotFound, ServerFault
from imgserver.plan.plan import SourceRef
from imgserver.sources import Writable
from imgserver.web.bootstrap.sources import Sources


@dataclass(frozen=True, slots=True)
class UploadStore:
    """A source that `store=` writes to. `written` is told of each original that is another now."""

    source: Writable
    name: str
    dialect: NativeDialect
    written: Callable[[SourceRef], None]

    @classmethod
    def of(
        cls, sources: Sources, name: str, dialect: NativeDialect, written: Callable[[SourceRef], None]
    ) -> "UploadStore | None":
        """The empty name is none. Raises ServerFault for what cannot be written to."""
        if not name:
            return None
        source = sources.by_name.get(name)
        if not isinstance(source, Writable) or name not in sources.writable:
            what = "is not writable" if source else f"is no source; there are {', '.join(sources.by_name)}"
            raise ServerFault(f"uploads.store: {name} {what}")
        return cls(source, name, dialect, written)

    def url(self, path: str) -> str:
        """Raises BadSourcePath and BadOption for a path that no URL can name."""
        if any(part.startswith(".") for part in path.split("/")):
            raise BadRequest("store: a name does not begin with a dot", argument="store", value=path[:200])
        return self.dialect.build(SourceRef(self.name, path))

    async def keep(self, path: str, body: bytes, *, replace: bool) -> str:
        """Its URL. Raises what `url` and `Writable.store` raise; BadRequest where nothing can have this name."""
        url = self.url(path)
        try:
            await self.source.store(path, body, replace=replace)
        except NotFound as error:
            detail = "store: nothing can be kept under this name"
            raise BadRequest(detail, argument="store", value=path[:200]) from error
        self.written(SourceRef(self.name, path))
        return url
