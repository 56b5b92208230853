"""All dialects of a server with one `parse`: the mount of a target selects the dialect."""

import re
from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from imgserver.dialects.dialect import Dialect
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest
from imgserver.security.signing import Keyring

if TYPE_CHECKING:
    from imgserver.dialects.native import NativeDialect

MOUNT = re.compile(r"(?:/[A-Za-z0-9._-]+)+/")
# The server's own routes.
RESERVED_MOUNTS = ("/api/", "/studio/")


class MountedDialects:
    """Dialects by name. The first one reads the targets that are under no mount, and its errors are the answer."""

    def __init__(self, by_name: Mapping[str, Dialect]) -> None:
        """Raises ValueError for mounts that overlap or that the server uses."""
        faults = list(_mount_faults(by_name))
        if faults:
            raise ValueError("\n".join(faults))
        self._by_name = dict(by_name)
        self._by_mount = {dialect.mount: dialect for dialect in by_name.values()}
        self.mounts = tuple(self._by_mount)

    @property
    def native(self) -> "NativeDialect":
        """The dialect of the URLs that the server itself writes."""
        return cast("NativeDialect", self._by_name["native"])

    def parse(self, raw_target: str, hints: Hints = NO_HINTS) -> ImageRequest:
        """Raises what `Dialect.parse` raises."""
        for mount, dialect in self._by_mount.items():
            if raw_target.startswith(mount):
                return dialect.parse(raw_target, hints)
        # Percent-encoded letters change no path (RFC 3986, 6.2.2.2).
        for mount, dialect in self._by_mount.items():
            *parts, rest = raw_target.split("/", mount.count("/"))
            if unquote("/".join([*parts, ""])) == mount:
                return dialect.parse(mount + rest, hints)
        return self._by_mount[self.mounts[0]].parse(raw_target, hints)

    def adopt(self, *, presets: Mapping[str, str], keyring: Keyring) -> None:
        """Puts new presets and signing keys into force in all dialects."""
        for dialect in self._by_name.values():
            dialect.adopt(presets=presets, keyring=keyring)


def _mount_faults(by_name: Mapping[str, Dialect]) -> Iterator[str]:
    for name, dialect in by_name.items():
        if not MOUNT.fullmatch(dialect.mount) or dialect.mount.startswith(RESERVED_MOUNTS):
            yield f"dialect {name}: the mount {dialect.mount!r} is not allowed; a path such as /img/, and not /api/"
    for (one, first), (other, second) in permutations(by_name.items(), 2):
        if second.mount.startswith(first.mount) and (first.mount != second.mount or one < other):
            yield f"the mounts of the dialects {one} and {other} overlap: {first.mount} and {second.mount}"
