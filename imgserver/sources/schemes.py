"""The registry of sources: which function makes a source of a URL with a certain scheme."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgserver.observability.audit import Audit
from imgserver.sources.origin import Origin
from imgserver.sources.source import Source

if TYPE_CHECKING:
    from imgserver.sources.config import FetchSettings, SourceConfig


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a factory gets besides the settings of its source.

    `name` is the source's name, for messages and audit events. `max_concurrent` bounds the requests that an origin gets
    at the same time, `max_bytes` the size of an original. `cached` puts the origin cache in front of an origin.
    """

    name: str
    fetch: "FetchSettings"
    max_concurrent: int
    max_bytes: int
    audit: Audit
    cached: Callable[[Origin], Source]


# Raises ValueError or ServerFault if the settings make no source.
SourceFactory = Callable[["SourceConfig", SourceContext], Source]
# Raises ValueError if the settings are wrong. Called when settings are read: it has no side effects.
SourceCheck = Callable[["SourceConfig"], None]
# Returns a text that differs for two sources with different originals, and is the same whatever their credentials are.
SourceIdentity = Callable[["SourceConfig"], str]


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row of SCHEMES. Functions may be given as "module:name", which is imported at the first use.

    `settings` are the settings of `[sources.NAME]` that the scheme takes besides `url`; all others must keep their
    defaults. `can_list` says whether the source has a listing. `identity`: None if the URL alone says what is served.
    """

    factory: SourceFactory | str
    check: SourceCheck | str | None = None
    identity: SourceIdentity | str | None = None
    settings: frozenset[str] = frozenset()
    can_list: bool = False

    def make(self, config: "SourceConfig", context: SourceContext) -> Source:
        """Raises ValueError and ServerFault."""
        source: Source = _resolved(self.factory)(config, context)
        return source

    def identity_of(self, config: "SourceConfig") -> str:
        """A text that distinguishes this source from all others, for digests alone: it may hold secrets."""
        if self.identity is None:
            return config.url
        identity: str = _resolved(self.identity)(config)
        return identity

    def refuse_wrong(self, config: "SourceConfig") -> None:
        """Raises ValueError for settings that this scheme does not take, or that are wrong."""
        foreign = sorted(config.changed() - self.settings - {"url"})
        if foreign:
            raise ValueError(f"{', '.join(foreign)}: not for a source of the scheme {config.scheme}")
        if self.check is not None and config.url:
            _resolved(self.check)(config)


_HTTP = Scheme(
    "imgserver.sources.http:make_source",
    check="imgserver.sources.url_mapping:check",
    identity="imgserver.sources.url_mapping:identity",
    settings=frozenset({"headers", "allowed_redirects", "allowed_networks"}),
)
_OBJECT_STORE = Scheme(
    "imgserver.sources.object_store:make_source",
    check="imgserver.sources.object_store_client:check",
    identity="imgserver.sources.object_store_client:identity",
    settings=frozenset({"endpoint", "region", "env_prefix", "writable"}),
    can_list=True,
)

# By the scheme of `url`, in lower case. A source with `root` instead of `url` has the scheme `file`.
SCHEMES: dict[str, Scheme] = {
    "file": Scheme(
        "imgserver.sources.folder:make_source",
        check="imgserver.sources.folder:check",
        identity="imgserver.sources.folder:identity",
        settings=frozenset({"root", "writable"}),
        can_list=True,
    ),
    "http": _HTTP,
    "https": _HTTP,
    "s3": _OBJECT_STORE,
    "gs": _OBJECT_STORE,
    "az": _OBJECT_STORE,
}


def _resolved(function: Any) -> Any:
    return pkgutil.resolve_name(function) if isinstance(function, str) else function
