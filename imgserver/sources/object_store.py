"""Object stores as origins: S3 and what speaks its language (Spaces, MinIO, R2), Google Cloud Storage, Azure Blobs.

The client is obstore, of the extra [s3], imported when the first store is made. Its messages carry whole URLs, which
may be signed, so nothing of them is passed on or logged but a status and an error's code.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le

from imgserver.errors import Conflict, DeadlineExceeded, ImgserverError, NotFound, ServerFault, SourceFailed
from imgserver.plan.formats import FORMATS
from imgserver.plan.sniffing import format_of
from imgserver.sources.http_response import max_age_seconds
from imgserver.sources.listing import LOOKED_AT, is_picture
from imgserver.sources.origin import BodySink, OriginResponse, Validators

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ObjectStore

CHUNK_BYTES = 1 << 18
LISTED_AT_ONCE = 500
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
WARNING_SECONDS = 60.0

# What a store says when the fault is in the settings, and where to look.
HINTS = {
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidAccessKeyId": "the access key is unknown there",
    "ExpiredToken": "the session token has expired",
    "AccessDenied": "these credentials may not do this; without the right to list, absent originals look the same",
    "AuthenticationFailed": "the account's key is wrong",
    "NoSuchBucket": "there is no such bucket",
    "ContainerNotFound": "there is no such container",
    "PermanentRedirect": "the region or the endpoint is wrong",
    "AuthorizationHeaderMalformed": "the region is wrong",
    "SlowDown": "it asks for fewer requests",
}
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})

_URL = re.compile(r"(?:s3|gs|az)://[\w.-]+(?:/[^?#]*)?")
_ENDPOINT = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_TIMEOUT = re.compile(r"kind: Timeout|TimedOut")
_VARIANT = re.compile(r"source: (\w{1,64})")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ObjectStoreSettings:
    """`url` is s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; `endpoint` and `region` are for what is
    not Amazon's own.

    Credentials come from the environment, by obstore's own names (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, ...). With `env_prefix`, from those
    that begin with that text, which is cut off: SHOP_AWS_ACCESS_KEY_ID is AWS_ACCESS_KEY_ID of "SHOP_".

    `idle_seconds` without a byte end an attempt, of which there are up to `retries` more; `total_seconds` end all.
    """

    url: str = ""
    endpoint: str = ""
    region: str = ""
    env_prefix: str = ""
    connect_seconds: Annotated[float, Gt(0), Le(60)] = 2.0
    idle_seconds: Annotated[float, Gt(0), Le(600)] = 5.0
    total_seconds: Annotated[float, Gt(0), Le(600)] = 8.0
    retries: Annotated[int, Ge(0), Le(10)] = 2


class ObjectStoreOrigin:
    """One bucket, or what is below a prefix in it. An `Origin`, and `Writable`.

    Throttling (429, 503), 5xx and broken connections are tried again by the client, and a body that broke off is gone
    on with where it was, as long as the object is the same.
    """

    def __init__(self, settings: ObjectStoreSettings, environ: Mapping[str, str] = os.environ) -> None:
        """ServerFault: obstore is not installed, or the settings make no store."""
        self._settings = settings
        self._store = _made(settings, environ)
        self._warned: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<ObjectStoreOrigin {self._settings.url}>"

    async def fetch(self, path: str, sink: BodySink, *, known: Validators | None = None) -> OriginResponse | None:
        from obstore.exceptions import NotModifiedError

        async with self._in_time():
            try:
                result = await self._get(path, _conditions(known))
            except NotModifiedError:
                return None
            chunks = aiter(result.stream(CHUNK_BYTES))
            # What the sink raises is not the store's, and is not translated.
            while (chunk := await self._next(chunks)) is not None:
                await sink(chunk)
            return _told(result)

    async def stat(self, path: str) -> OriginResponse:
        async with self._in_time():
            return _told(await self._get(path, {"head": True}))

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:
        """Not every store knows conditional writes, so it is looked first: of two at the same moment, only a store that
        knows them refuses the second."""
        if not replace and await self._has(path):
            raise Conflict()
        async with self._in_time(), self._translated():
            await self._put(path, body, replace=replace)

    async def pictures(self, limit: int) -> list[str]:
        """As in `Listed`: among the first LOOKED_AT objects, in the store's own order."""
        found: list[str] = []
        async with self._in_time(), self._translated():
            seen = 0
            async for batch in self._listed():
                found += [path for path in batch if is_picture(path)]
                seen += len(batch)
                if len(found) >= limit or seen >= LOOKED_AT:
                    break
        return found[:limit]

    async def _listed(self) -> AsyncIterator[list[str]]:
        import obstore

        async for objects in obstore.list(self._store, chunk_size=LISTED_AT_ONCE):
            yield [str(one["path"]) for one in objects]

    async def close(self) -> None:
        """The client has nothing to be closed."""

    async def _has(self, path: str) -> bool:
        try:
            await self.stat(path)
        except NotFound:
            return False
        return True

    async def _put(self, path: str, body: bytes, *, replace: bool) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        kind = FORMATS.get(format_of(body))
        try:
            await obstore.put_async(
                self._store,
                path,
                body,
                attributes={"Content-Type": kind.media_type} if kind else None,
                mode="overwrite" if replace else "create",
                use_multipart=False,
            )
        except AlreadyExistsError as error:
            raise Conflict() from error

    async def _get(self, path: str, options: "GetOptions") -> "GetResult":
        import obstore
        from obstore.exceptions import NotModifiedError

        async with self._translated(passing=NotModifiedError):
            return await obstore.get_async(self._store, path, options=options)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        async with self._translated():
            return await anext(chunks, None)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.total_seconds):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded("The object store took too long") from error

    @asynccontextmanager
    async def _translated(self, passing: type[Exception] | None = None) -> AsyncIterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            if passing is not None and isinstance(error, passing):
                raise
            # Without the cause: a traceback in a log would print its text.
            raise self._error(error) from None

    def _error(self, error: Exception) -> ImgserverError:
        text = str(error)
        code = _first(_CODE, text)
        if isinstance(error, ValueError) or (isinstance(error, FileNotFoundError) and code not in _NO_BUCKET):
            return NotFound()
        if _TIMEOUT.search(text):
            return DeadlineExceeded("The object store took too long")
        said = " ".join(filter(None, (_first(_STATUS, text), code))) or type(error).__name__
        self._warn(said, HINTS.get(code, ""))
        return SourceFailed("The object store failed", said=said)

    def _warn(self, said: str, hint: str) -> None:
        """Once a minute for each kind: a store that is down would fill the log."""
        now = time.monotonic()
        if now - self._warned.get(said, -WARNING_SECONDS) >= WARNING_SECONDS:
            self._warned[said] = now
            log.warning("%s answers %s%s", self._settings.url, said, f": {hint}" if hint else "")


def refuse_malformed(url: str, endpoint: str) -> None:
    """Raises ValueError, which repeats neither: any part may be a secret."""
    if not _URL.fullmatch(url):
        raise ValueError("url: the address of an object store is s3://bucket/prefix, gs://... or az://..., and no more")
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        raise ValueError("endpoint: an address such as https://fra1.digitaloceanspaces.com, without user or query")


def _made(settings: ObjectStoreSettings, environ: Mapping[str, str]) -> "ObjectStore":
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise ServerFault(f"{settings.url} needs obstore: pip install 'imgserver[s3]'") from error
    try:
        refuse_malformed(settings.url, settings.endpoint)
    except ValueError as error:
        raise ServerFault(str(error)) from error
    try:
        return from_url(settings.url, config=_config(settings, environ), **_client(settings))
    except (BaseError, ValueError) as error:
        said = _first(_VARIANT, str(error)) or type(error).__name__
        raise ServerFault(f"{settings.url} cannot be used: {said}") from None


def _config(settings: ObjectStoreSettings, environ: Mapping[str, str]) -> Any:
    """For one kind of store or another: obstore refuses the names that are none of its own."""
    prefix = settings.env_prefix
    config = {name.removeprefix(prefix).lower(): value for name, value in environ.items() if name.startswith(prefix)}
    config = config if prefix else {}
    if prefix and not config:
        raise ServerFault(f"{settings.url}: no environment variable begins with {prefix}")
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    if settings.region:
        config["region"] = settings.region
    return config


def _client(settings: ObjectStoreSettings) -> dict[str, Any]:
    pauses = {
        "init_backoff": timedelta(seconds=FIRST_PAUSE_SECONDS),
        "max_backoff": timedelta(seconds=LONGEST_PAUSE_SECONDS),
        "base": 2,
    }
    return {
        "client_options": {
            "allow_http": settings.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=settings.connect_seconds),
            "read_timeout": timedelta(seconds=settings.idle_seconds),
            "timeout": timedelta(seconds=settings.total_seconds),
        },
        "retry_config": {
            "max_retries": settings.retries,
            "retry_timeout": timedelta(seconds=settings.total_seconds),
            "backoff": pauses,
        },
    }


def _conditions(known: Validators | None) -> "GetOptions":
    if known is None:
        return {}
    if known.etag is not None:
        return {"if_none_match": known.etag}
    if known.modified is not None:
        return {"if_modified_since": datetime.fromtimestamp(known.modified, UTC)}
    return {}


def _told(result: "GetResult") -> OriginResponse:
    meta = result.meta
    # A store that tells no time gets the beginning of the epoch from the client.
    modified = int(meta["last_modified"].timestamp()) or None
    validators = Validators(etag=meta["e_tag"], modified=modified, size_bytes=meta["size"])
    return OriginResponse(validators, max_age_seconds(result.attributes))


def _first(pattern: "re.Pattern[str]", text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""
