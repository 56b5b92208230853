"""Counts uploads and audits each refused upload once."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from imgserver.errors import ImgserverError
from imgserver.observability.audit import Audit, asked
from imgserver.observability.metrics import Metrics
from imgserver.web.middleware import AUDITED
from imgserver.web.uploads.results import UploadResult

# How uploads are counted, and what the log is told of each.

# Of the door; they have events of their own.
AT_THE_DOOR = frozenset({401, 403, 429})


class UploadAccounting:
    """The audit is told of each upload once: of what was refused here, nobody else tells it."""

    def __init__(self, metrics: Metrics, audit: Audit) -> None:
        self._metrics = metrics
        self._audit = audit

    @contextmanager
    def counted(self, request: web.Request) -> Iterator[None]:
        """Around a whole request: what ends it early is counted, one upload each."""
        try:
            yield
        except asyncio.CancelledError:
            self._count("client_disconnected")
            raise
        except ImgserverError as error:
            self._failed(request, error)
            raise
        except web.HTTPException:
            self._count("refused")
            raise
        except Exception:
            self._count("failed")
            raise

    def waited(self, seconds: float) -> None:
        self._metrics.queue_wait.labels("upload").observe(seconds)

    def note(self, request: web.Request, findings: Sequence[UploadResult], *, key: str) -> dict[str, Any]:
        """Counts each picture of an answered request; its facts for the log."""
        for finding in findings:
            if isinstance(finding.result, ImgserverError):
                self._failed(request, finding.result)
            else:
                self._succeeded(finding)
        made = [one for one in findings if not isinstance(one.result, ImgserverError)]
        return {
            "pictures": len(findings),
            "made": len(made),
            "original_bytes": sum(one.original_bytes for one in findings),
            "result_bytes": sum(one.result_bytes for one in made),
            "key": key or None,
        }

    def _succeeded(self, finding: UploadResult) -> None:
        self._count("ok")
        self._metrics.upload_bytes.labels("in").inc(finding.original_bytes)
        self._metrics.upload_bytes.labels("out").inc(finding.result_bytes)
        self._metrics.upload_ratio.observe(finding.ratio)

    def _failed(self, request: web.Request, error: ImgserverError) -> None:
        self._count(_result(error.status))
        if error.status < 500 and error.status not in AT_THE_DOOR:
            request[AUDITED] = True
            self._audit("upload_rejected", reason=error.code, **asked())

    def _count(self, result: str) -> None:
        self._metrics.uploads.labels(result).inc()


def _result(status: int) -> str:
    if status in (429, 503):
        return "shed"
    return "failed" if status >= 500 and status != 501 else "refused"
