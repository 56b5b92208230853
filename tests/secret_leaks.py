"""The log of a server must not contain its secrets or the path of its originals."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

SECRET_SETTINGS = ("admin_key", "IMGSERVER_ADMIN_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# `Name: value` pairs, separated by commas, of any source.
HEADER_SETTINGS = "_headers"
URL_SETTINGS = ("redis_url", "IMGSERVER_REDIS_URL", "REDIS_URL")


def refuse_leaks(log: str, place: Path | str, given: Mapping[str, object]) -> None:
    """Raises AssertionError. `given`: the settings and variables that the server was started with."""
    leaked = sorted(secret for secret in _secrets(place, given) if secret in log)
    assert leaked == [], f"the log contains {leaked}"


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
