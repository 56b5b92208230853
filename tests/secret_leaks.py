"""What must never stand in a server's log: the secrets it was given, and where its originals lie on the disk."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

SECRET_SETTINGS = ("admin_key", "IMGSERVER_ADMIN_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Lines `Name: value` joined by commas, of any source.
HEADER_SETTINGS = "_headers"
URL_SETTINGS = ("redis_url", "IMGSERVER_REDIS_URL", "REDIS_URL")


def refuse_leaks(log: str, place: Path | str, given: Mapping[str, object]) -> None:
    """`given` are the settings and variables that the server was started with."""
    leaked = sorted(secret for secret in _secrets(place, given) if secret in log)
    assert leaked == [], f"the log tells {leaked}"


def _secrets(place: Path | str, given: Mapping[str, object]) -> Iterator[str]:
    if isinstance(place, Path):
        yield str(place.resolve())
    for name, value in given.items():
        if name in SECRET_SETTINGS and value:
            yield str(value)
        if name.lower().endswith(HEADER_SETTINGS):
            yield from (line.partition(":")[2].strip() for line in str(value).split(","))
        if name in URL_SETTINGS and (password := urlsplit(str(value)).password):
            yield password
