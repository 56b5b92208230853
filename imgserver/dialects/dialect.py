"""The port of a dialect, and what a server tells every dialect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest, SourceRef
from imgserver.security.signing import NO_KEYS, Keyring

if TYPE_CHECKING:
    from imgserver.dialects.native.settings import NativeSettings


class Dialect(Protocol):
    """A URL grammar: pure functions of the URL and of the configuration. No I/O and no clock."""

    @property
    def mount(self) -> str:
        """The prefix of all targets of this dialect, such as `/img/`. It begins and ends with a slash. The mounts of
        two dialects do not overlap."""
        ...

    def parse(self, raw_target: str, hints: Hints = NO_HINTS) -> ImageRequest:
        """The request that a target means for a client with these hints. `ImageRequest.hints` names the hints that
        change the plan.

        `raw_target` is the request target as received, with its query, not decoded. Checks the signature, if the
        dialect has signatures, before it reads anything else.

        Raises NotFound outside the mount, TargetTooLong, BadRequest and its subclasses, Forbidden and its subclasses,
        and NotInThisBuild; no other error, whatever the text.
        """
        ...

    def build(self, ref: SourceRef, options: str = "") -> str:
        """A target for this original and these options, in the syntax of this dialect; signed if the server answers
        signed targets only. `parse` returns `ref` for it.

        Raises BadSourcePath for a path that no target can hold, and what `parse` raises for the options.
        """
        ...

    def adopt(self, *, presets: Mapping[str, str], keyring: Keyring) -> None:
        """Puts new presets and signing keys into force, from the next call of `parse` on."""
        ...


@dataclass(frozen=True, slots=True)
class DialectConfig:
    """What a server tells every dialect.

    `sources` are the names of all sources; `default_source` serves a path that names none. `remote`: URLs may name
    originals on other hosts (`security.remote_url`). `presets` are named options. `client_hints`: URLs may leave values
    to the client. `native` is the section [native] of the settings, with limits for one URL.
    """

    native: "NativeSettings"
    sources: frozenset[str]
    default_source: str
    remote: bool = False
    presets: Mapping[str, str] = field(default_factory=dict)
    keyring: Keyring = NO_KEYS
    client_hints: bool = False
