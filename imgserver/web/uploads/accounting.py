"""Counts every upload by its result, and audits every refused upload."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from imgserver.errors import ImgserverError
from imgserver.observability.audit import Audit, request_context
from imgserver.observability.metrics import Metrics
from imgserver.web.middleware import AUDITED
from imgserver.web.uploads.results import UploadResult

# Refusals by the access policy and by authentication, which are audited where they are decided.
AUDITED_STATUSES = frozenset({401, 403, 429})


class UploadAccounting:
    """Each upload is counted once, and each refused upload is audited once."""

    def __init__(self, metrics: Metrics, audit: Audit) -> None:
        self._metrics = metrics
        self._audit = audit

    @contextmanager
    def request(self, request: web.Request) -> Iterator[None]:
        """Counts a request that ends with an error as one upload."""
        try:
            yield
        except asyncio.CancelledError:
            self._count("client_disconnected")
            raise
        except ImgserverError as error:
            self._record_error(request, error)
            raise
        except web.HTTPException:
            self._count("refused")
            raise
        except Exception:
            self._count("failed")
            raise

    def observe_wait(self, seconds: float) -> None:
        """The wait of an upload in the queue."""
        self._metrics.queue_wait.labels("upload").observe(seconds)

    def record(self, request: web.Request, results: Sequence[UploadResult], *, key: str) -> dict[str, Any]:
        """Counts each image of a request that was answered. Returns further fields for the request's log event."""
        for upload in results:
            if isinstance(upload.result, ImgserverError):
                self._record_error(request, upload.result)
            else:
                self._record_success(upload)
        succeeded = [upload for upload in results if not isinstance(upload.result, ImgserverError)]
        return {
            "images": len(results),
            "succeeded": len(succeeded),
            "original_bytes": sum(upload.original_bytes for upload in results),
            "result_bytes": sum(upload.result_bytes for upload in succeeded),
            "key": key or None,
        }

    def _record_success(self, upload: UploadResult) -> None:
        self._count("ok")
        self._metrics.upload_bytes.labels("in").inc(upload.original_bytes)
        self._metrics.upload_bytes.labels("out").inc(upload.result_bytes)
        self._metrics.upload_ratio.observe(upload.ratio)

    def _record_error(self, request: web.Request, error: ImgserverError) -> None:
        self._count(_result_label(error.status))
        if error.status < 500 and error.status not in AUDITED_STATUSES:
            request[AUDITED] = True
            self._audit("upload_rejected", reason=error.code, **request_context())

    def _count(self, result: str) -> None:
        self._metrics.uploads.labels(result).inc()


def _result_label(status: int) -> str:
    if status in (429, 503):
        return "shed"
    return "failed" if status >= 500 and status != 501 else "refused"
