"""Originals from object stores: S3 and stores with its API (Spaces, MinIO, R2), Google Cloud Storage, Azure Blob
Storage.

The messages of the client, obstore, contain whole URLs, which may be signed. Of them only a status and an error code
are logged or passed on.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from imgserver.errors import Conflict, DeadlineExceeded, ImgserverError, NotFound, SourceFailed
from imgserver.plan.formats import FORMATS
from imgserver.plan.sniffing import format_of
from imgserver.runtime.ttl_map import TtlMap
from imgserver.sources.config import SourceConfig
from imgserver.sources.content_coding import DecodingSink, codings_of
from imgserver.sources.http_response import cache_policy, max_age_seconds
from imgserver.sources.listing import MAX_LISTED, is_image
from imgserver.sources.object_store_client import ObjectStoreSettings, make_client
from imgserver.sources.origin import BodySink, Origin, OriginResponse, Validators
from imgserver.sources.schemes import SourceContext
from imgserver.sources.source import Source

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

CHUNK_BYTES = 1 << 18
LISTING_BATCH = 500
WARNING_SECONDS = 60.0

# The error codes of a store that mean a wrong setting, and what to correct.
HINTS = {
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidAccessKeyId": "the access key does not exist",
    "ExpiredToken": "the session token has expired",
    "AccessDenied": "the credentials do not permit this; without permission to list, absent originals fail like this",
    "AuthenticationFailed": "the account's key is wrong",
    "NoSuchBucket": "the bucket does not exist",
    "ContainerNotFound": "the container does not exist",
    "PermanentRedirect": "the region or the endpoint is wrong",
    "AuthorizationHeaderMalformed": "the region is wrong",
    "SlowDown": "the store asks for fewer requests",
}
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_TIMEOUT = re.compile(r"kind: Timeout|TimedOut")

log = logging.getLogger(__name__)


def make_source(config: SourceConfig, context: SourceContext) -> Source:
    """The factory of the schemes s3, gs and az. Raises ServerFault if obstore is missing or refuses the settings."""
    settings = ObjectStoreSettings(
        url=config.url,
        endpoint=config.endpoint,
        region=config.region,
        env_prefix=config.env_prefix,
        fetch=context.fetch,
    )
    return context.cached(ObjectStoreOrigin(settings))


class ObjectStoreOrigin(Origin):
    """A bucket, or the objects below a prefix in it.

    The client retries throttled requests (429, 503), 5xx responses and broken connections. It resumes an interrupted
    body where it stopped, as long as the object is unchanged.
    """

    def __init__(self, settings: ObjectStoreSettings, environ: Mapping[str, str] = os.environ) -> None:
        """Raises ServerFault if obstore is not installed, or cannot use the settings."""
        self._settings = settings
        self._client = make_client(settings, environ)
        self._warned = TtlMap[str, bool](WARNING_SECONDS)

    def __repr__(self) -> str:
        return f"<ObjectStoreOrigin {self._settings.url}>"

    async def fetch(self, path: str, sink: BodySink, *, known: Validators | None = None) -> OriginResponse | None:
        from obstore.exceptions import NotModifiedError

        async with self._within_time_out():
            try:
                result = await self._get(path, _conditions(known))
            except NotModifiedError:
                return None
            codings = codings_of(str(result.attributes.get("Content-Encoding", "")))
            decoding = DecodingSink(codings, sink)
            chunks = aiter(result.stream(CHUNK_BYTES))
            # The sink is called outside `_translate_errors`: its exceptions are not the store's.
            while (chunk := await self._next(chunks)) is not None:
                await decoding(chunk)
            decoding.close()
            return _response_of(result)

    async def stat(self, path: str) -> OriginResponse:
        async with self._within_time_out():
            return _response_of(await self._get(path, {"head": True}))

    async def store(self, path: str, body: bytes, *, replace: bool = False) -> None:
        """As in `Source`. Not every store has conditional writes, so the path is checked first; of two concurrent
        writes only a store that has them refuses the second."""
        if not replace and await self._exists(path):
            raise Conflict()
        async with self._within_time_out(), self._translate_errors():
            await self._put(path, body, replace=replace)

    async def listing(self, limit: int) -> list[str]:
        """As in `Source`: among the first MAX_LISTED objects, in the store's order."""
        found: list[str] = []
        async with self._within_time_out(), self._translate_errors():
            seen = 0
            async for batch in self._batches():
                found += [path for path in batch if is_image(path)]
                seen += len(batch)
                if len(found) >= limit or seen >= MAX_LISTED:
                    break
        return found[:limit]

    async def _batches(self) -> AsyncIterator[list[str]]:
        import obstore

        async for objects in obstore.list(self._client, chunk_size=LISTING_BATCH):
            yield [str(row["path"]) for row in objects]

    async def _exists(self, path: str) -> bool:
        try:
            await self.stat(path)
        except NotFound:
            return False
        return True

    async def _put(self, path: str, body: bytes, *, replace: bool) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        row = FORMATS.get(format_of(body))
        try:
            await obstore.put_async(
                self._client,
                path,
                body,
                attributes={"Content-Type": row.media_type} if row else None,
                mode="overwrite" if replace else "create",
                use_multipart=False,
            )
        except AlreadyExistsError as error:
            raise Conflict() from error

    async def _get(self, path: str, options: "GetOptions") -> "GetResult":
        import obstore
        from obstore.exceptions import NotModifiedError

        async with self._translate_errors(unless=NotModifiedError):
            return await obstore.get_async(self._client, path, options=options)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        async with self._translate_errors():
            return await anext(chunks, None)

    @asynccontextmanager
    async def _within_time_out(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.fetch.total_timeout_seconds):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded("The object store took too long") from error

    @asynccontextmanager
    async def _translate_errors(self, unless: type[Exception] | None = None) -> AsyncIterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            if unless is not None and isinstance(error, unless):
                raise
            # Without the cause, whose text a traceback in the log would print.
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> ImgserverError:
        text = str(error)
        code = _first(_CODE, text)
        if isinstance(error, ValueError) or (isinstance(error, FileNotFoundError) and code not in _NO_BUCKET):
            return NotFound()
        if _TIMEOUT.search(text):
            return DeadlineExceeded("The object store took too long")
        text = " ".join(filter(None, (_first(_STATUS, text), code))) or type(error).__name__
        self._warn(text, HINTS.get(code, ""))
        return SourceFailed("The object store failed", error=text)

    def _warn(self, text: str, hint: str) -> None:
        """Once per WARNING_SECONDS for each error: a store that is down would fill the log."""
        if not self._warned.get(text):
            self._warned.put(text, True)
            log.warning("object_store.failed", extra={"url": self._settings.url, "error": text, "hint": hint})


def _conditions(known: Validators | None) -> "GetOptions":
    if known is None:
        return {}
    if known.etag is not None:
        return {"if_none_match": known.etag}
    if known.modified is not None:
        return {"if_modified_since": datetime.fromtimestamp(known.modified, UTC)}
    return {}


def _response_of(result: "GetResult") -> OriginResponse:
    meta = result.meta
    # The client reports the epoch's beginning for a store that states no modification time.
    modified = int(meta["last_modified"].timestamp()) or None
    validators = Validators(etag=meta["e_tag"], modified=modified, size_bytes=meta["size"])
    return OriginResponse(validators, max_age_seconds(result.attributes), cache_policy(result.attributes))


def _first(pattern: "re.Pattern[str]", text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""
