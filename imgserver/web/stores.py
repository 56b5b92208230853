"""Where results of uploads are kept, and how a URL asks for them afterwards."""

from dataclasses import dataclass

from imgserver.dialects.native import NativeDialect
from imgserver.errors import BadRequest, ServerFault
from imgserver.plan import SourceRef
from imgserver.sources import Writable
from imgserver.web.sources import Sources


@dataclass(frozen=True, slots=True)
class Store:
    """A source that `store=` writes to."""

    source: Writable
    name: str
    dialect: NativeDialect

    @classmethod
    def of(cls, sources: Sources, name: str, dialect: NativeDialect) -> "Store | None":
        """The empty name is none. Raises ServerFault for what cannot be written to."""
        if not name:
            return None
        source = sources.by_name.get(name)
        if not isinstance(source, Writable) or name not in sources.writable:
            what = "is not writable" if source else f"is no source; there are {', '.join(sources.by_name)}"
            raise ServerFault(f"uploads.store: {name} {what}")
        return cls(source, name, dialect)

    def url(self, path: str) -> str:
        """Raises BadSourcePath and BadOption for a path that no URL can name."""
        if any(part.startswith(".") for part in path.split("/")):
            raise BadRequest("store: a name does not begin with a dot", argument="store", value=path[:200])
        return self.dialect.build(SourceRef(self.name, path))
