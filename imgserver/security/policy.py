"""The rules as frozen values; `Policy()` is what holds without a file: everybody may ask, as often as they like.

None means that the settings' own limit stands.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from imgserver.plan.formats import FORMATS, Format
from imgserver.runtime.resources import GIB, KIB
from imgserver.security.networks import IPNetwork

# What `f_auto` falls back to, for clients that show nothing newer.
NEEDED: frozenset[str] = frozenset({"jpg", "png", "gif"})


@dataclass(frozen=True, slots=True)
class ClientLists:
    """`deny` is refused. `allow`, unless empty, refuses everybody else; who is in both is refused."""

    deny: tuple[IPNetwork, ...] = ()
    allow: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class Proxies:
    """Whose word about the client is taken: who stands in `networks`, and the nearest `hops` wherever they stand.

    Only one field is read. A proxy that writes one of the two passes the client's own version of the other on.
    """

    networks: tuple[IPNetwork, ...] = ()
    hops: Annotated[int, Ge(0), Le(16)] = 0
    field: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"

    def __bool__(self) -> bool:
        return bool(self.networks or self.hops)


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket of one client: `per_second` on average, `burst` at once. 0 a second: no limit."""

    per_second: Annotated[float, Ge(0), Le(1_000_000)] = 0
    burst: Annotated[int, Ge(1), Le(1_000_000)] = 40

    def __bool__(self) -> bool:
        return self.per_second > 0


@dataclass(frozen=True, slots=True)
class Rates:
    pictures: Rate = field(default_factory=Rate)
    uploads: Rate = field(default_factory=Rate)
    admin: Rate = field(default_factory=Rate)

    def __bool__(self) -> bool:
        return any((self.pictures, self.uploads, self.admin))


@dataclass(frozen=True, slots=True)
class UploadLimits:
    body_bytes: Annotated[int, Ge(KIB), Le(GIB)] | None = None
    parts: Annotated[int, Ge(1), Le(1000)] | None = None


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """Frames summed, as in the settings' [limits]."""

    source: Annotated[int, Ge(1)] | None = None
    output: Annotated[int, Ge(1)] | None = None


@dataclass(frozen=True, slots=True)
class FormatLists:
    """Names of `plan.formats.FORMATS`: the formats of originals and of results. By default all that this build has."""

    read: tuple[str, ...] = field(default_factory=lambda: _names(lambda row: row.readable))
    write: tuple[str, ...] = field(default_factory=lambda: _names(lambda row: row.writable))

    def __post_init__(self) -> None:
        faults = [
            *_unknown("read", self.read, _names(lambda row: row.readable)),
            *_unknown("write", self.write, _names(lambda row: row.writable)),
        ]
        if not self.read:
            faults.append("read is empty: no image could be rendered")
        missing = NEEDED.difference(self.write)
        if missing:
            faults.append(f"write lacks {', '.join(sorted(missing))}, which f_auto falls back to")
        if faults:
            raise ValueError("; ".join(faults))


def _names(has: Callable[[Format], bool]) -> tuple[str, ...]:
    return tuple(name for name, row in FORMATS.items() if has(row))


def _unknown(name: str, given: tuple[str, ...], known: tuple[str, ...]) -> Iterator[str]:
    for word in given:
        if word not in known:
            yield f'{name}: "{word}" is not allowed, only {", ".join(known)}'


@dataclass(frozen=True, slots=True)
class Policy:
    """`digest` names the file's content; "" is no file."""

    clients: ClientLists = field(default_factory=ClientLists)
    proxies: Proxies = field(default_factory=Proxies)
    rates: Rates = field(default_factory=Rates)
    uploads: UploadLimits = field(default_factory=UploadLimits)
    pixels: PixelLimits = field(default_factory=PixelLimits)
    formats: FormatLists = field(default_factory=FormatLists)
    digest: str = ""


# Who may ask, how often, and for what: the operator's rules, as values.
#
# values.py are the rules; networks.py looks addresses up in lists of networks; clients.py tells whose address a request
# comes from when proxies stand between. Nothing here does any I/O; settings/policy_file.py reads the rules from YAML.

__all__ = ["ClientLists", "FormatLists", "PixelLimits", "Policy", "Proxies", "Rate", "Rates", "UploadLimits"]
