"""The operator's policy as frozen values: which clients are served, how often, and with which limits.

`Policy()` holds without a policy file: it refuses nobody. A limit of None means that the limit of the settings holds.
settings/policy_file.py reads a policy from YAML.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from imgserver.plan.formats import FORMATS, Format
from imgserver.runtime.resources import GIB, KIB
from imgserver.security.networks import IPNetwork

# `f_auto` falls back to these, for clients that support nothing newer.
REQUIRED_FORMATS: frozenset[str] = frozenset({"jpg", "png", "gif"})


@dataclass(frozen=True, slots=True)
class ClientLists:
    """Clients in `deny` are refused. If `allow` is not empty, all other clients are refused as well. A client in both
    is refused."""

    deny: tuple[IPNetwork, ...] = ()
    allow: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class Proxies:
    """The trusted proxies: those in `networks`, and the nearest `hops` of them wherever they are.

    Only one field is read: a proxy that writes one of the two passes on the other one as the client sent it.
    """

    networks: tuple[IPNetwork, ...] = ()
    hops: Annotated[int, Ge(0), Le(16)] = 0
    field: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"

    def __bool__(self) -> bool:
        return bool(self.networks or self.hops)


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit per client: `per_second` requests on average, `burst` in a row. `per_second` 0: no limit."""

    per_second: Annotated[float, Ge(0), Le(1_000_000)] = 0
    burst: Annotated[int, Ge(1), Le(1_000_000)] = 40

    def __bool__(self) -> bool:
        return self.per_second > 0


@dataclass(frozen=True, slots=True)
class Rates:
    """The rate limits by class of route."""

    pictures: Rate = field(default_factory=Rate)
    uploads: Rate = field(default_factory=Rate)
    admin: Rate = field(default_factory=Rate)

    def __bool__(self) -> bool:
        return any((self.pictures, self.uploads, self.admin))


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of one upload request: the size of its body, and the parts of its form."""

    body_bytes: Annotated[int, Ge(KIB), Le(GIB)] | None = None
    parts: Annotated[int, Ge(1), Le(1000)] | None = None


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """Pixels of all frames together, as in [limits] of the settings."""

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
        missing = REQUIRED_FORMATS.difference(self.write)
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
    """All rules together. `digest` identifies the content of the file; "" means that there is no file."""

    clients: ClientLists = field(default_factory=ClientLists)
    proxies: Proxies = field(default_factory=Proxies)
    rates: Rates = field(default_factory=Rates)
    uploads: UploadLimits = field(default_factory=UploadLimits)
    pixels: PixelLimits = field(default_factory=PixelLimits)
    formats: FormatLists = field(default_factory=FormatLists)
    digest: str = ""
