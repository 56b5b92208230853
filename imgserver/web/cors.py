"""Which images pages of other sites may read, with scripts or on a canvas (Fetch, CORS protocol; Resource Timing)."""

from multidict import MultiMapping

from imgserver.settings.schema import Settings
from imgserver.web.local_client import is_forwarded

# The headers of a response that every page may read, and the lines that they are on the wire.
READABLE = {"Access-Control-Allow-Origin": "*", "Timing-Allow-Origin": "*"}
READABLE_LINES = "".join(f"{name}: {value}\r\n" for name, value in READABLE.items()).encode()


class CrossOriginReads:
    """The rule of `http.cors`. With `auto`, a server that listens on a loopback address is private to this machine, so
    that no page of another site may read from it; a request that a proxy forwards shows that it is public."""

    def __init__(self, settings: Settings) -> None:
        cors = settings.http.cors
        self._depends = cors == "auto" and settings.server.is_local
        self._always = cors == "on" or (cors == "auto" and not self._depends)

    def allows(self, headers: MultiMapping[str]) -> bool:
        """Whether pages of other sites may read the response to a request with these headers."""
        return self._always or (self._depends and is_forwarded(headers))

    def lines(self, headers: MultiMapping[str]) -> bytes:
        """The header lines that allow it; none if they may not."""
        # Every hit comes here.
        return READABLE_LINES if self._always or (self._depends and is_forwarded(headers)) else b""
