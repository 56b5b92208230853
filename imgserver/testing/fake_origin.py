"""An origin in memory."""

import asyncio
import hashlib
from typing import Any

from imgserver.errors import NotFound
from imgserver.plan.rendition import CachePolicy
from imgserver.sources.origin import Origin, OriginResponse, Validators


class FakeOrigin(Origin):
    """An origin in memory whose state tests change. Every request raises `fault`. A fetch waits for `held` in the
    middle of the body, a stat before its response. Responses have no validators if `has_validators` is false."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.has_validators = True
        self.max_age_seconds: int | None = None
        self.cache_policy = CachePolicy.SHARED
        self.fault: Exception | None = None
        self.held: asyncio.Event | None = None
        self.fetches: list[str] = []
        self.stats: list[str] = []
        self.fetching = self.most_fetching = 0
        self.closed = False

    async def fetch(self, path: str, sink: Any, *, known: Validators | None = None) -> OriginResponse | None:
        self.fetches.append(path)
        self.fetching += 1
        self.most_fetching = max(self.most_fetching, self.fetching)
        try:
            response = self.response(path)
            if self.has_validators and known == response.validators:
                await self._wait()
                return None
            body, half = self.files[path], len(self.files[path]) // 2
            await sink(body[:half])
            await self._wait()
            await sink(body[half:])
            return response
        finally:
            self.fetching -= 1

    async def stat(self, path: str) -> OriginResponse:
        self.stats.append(path)
        await self._wait()
        return self.response(path)

    async def close(self) -> None:
        self.closed = True

    def response(self, path: str) -> OriginResponse:
        if self.fault is not None:
            raise self.fault
        if path not in self.files:
            raise NotFound()
        body = self.files[path]
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        validators = Validators(etag, 1_700_000_000, len(body)) if self.has_validators else Validators()
        return OriginResponse(validators, self.max_age_seconds, self.cache_policy)

    async def _wait(self) -> None:
        if self.held is not None:
            await self.held.wait()
        if self.fault is not None:
            raise self.fault
