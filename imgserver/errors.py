"""The error tree. Every port translates foreign errors into these; only the middleware turns errors into responses.

ImgserverError                      500
├── BadRequest                      400
│   ├── BadOption                   400   names argument, value, allowed, nearest, at
│   ├── BadSourcePath               400
│   ├── OutputOverLimit             400
│   └── MalformedRequest            400   refused by the HTTP parser; depends on more than the URL, so never cached
├── Unauthorized                    401   an API key is missing or unknown
├── Forbidden                       403
│   ├── AddressDenied                     the client's address is on a list, or not on one
│   ├── SignatureRefused
│   └── SourceDenied
├── NotFound                        404
├── BodyTimeout                     408   the body of an upload arrives too slowly
├── Conflict                        409   a file of that name exists
├── Expired                         410
├── PreconditionFailed              412   If-Match or If-Unmodified-Since does not hold for the image
├── BodyTooLarge                    413   an upload over a limit
├── TargetTooLong                   414
├── UnsupportedImage                415
├── Unprocessable                   422
│   ├── BrokenImage                       truncated or corrupt
│   ├── ImageOverLimit                    pixels, sides, frames, bytes
│   ├── FramesLost                        the result would hold fewer frames than were to be kept
│   └── Quarantined                       killed workers before
├── QuotaExceeded                   429   a client's rate limit; overload is 503
│   └── TooManyFailures                   one client keeps sending wrong keys
├── HeaderTooLarge                  431   refused by the HTTP parser, as MalformedRequest
├── ServerFault                     500
├── NotInThisBuild                  501
├── SourceFailed                    502   the server of the original failed, or sent an incomplete body
├── Unavailable                     503
│   ├── OriginalBusy                      the quota of new renditions of one original, whoever requests them
│   ├── Overloaded                        shed: full, predicted_wait, deadline, memory, drain
│   └── WorkerLost                        the worker died during this render
└── DeadlineExceeded                504
"""

import errno
from typing import Any, ClassVar

# The errors of the operating system that say that this server has no such file. All others, such as EIO, ESTALE and
# ETIMEDOUT, say nothing about the file and may pass.
_ABSENCE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EISDIR})


def drop_tracebacks(error: BaseException) -> None:
    """To be called when an error has been answered and logged. Its traceback holds the frames of the request, and a
    frame of a coroutine holds the future that holds the error: a cycle of some 10 kB, which would wait for the
    collector of cycles. A flood of 404s would take 10 MB."""
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__


class ImgserverError(Exception):
    """An error with a status and a code for machines, a sentence for people (`detail`), and further `facts`.

    `cache_seconds` is the longest max-age of the error response; 0 means `no-store`. An error with the fact `young` is
    about an original that may soon be another one. Errors are pickled between processes as (class, detail, facts), so a
    subclass never changes the constructor.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    title: ClassVar[str] = "The server failed"
    cache_seconds: ClassVar[int] = 0

    def __init__(self, detail: str = "", **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail or self.title
        self.facts = facts

    @property
    def is_young(self) -> bool:
        return bool(self.facts.get("young"))

    @property
    def max_age_seconds(self) -> int:
        """The max-age of this error response; 0 means `no-store`."""
        return 0 if self.is_young else self.cache_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.detail, self.facts)


def _rebuild(kind: type[ImgserverError], detail: str, facts: dict[str, Any]) -> ImgserverError:
    return kind(detail, **facts)


def is_absence(error: OSError) -> bool:
    """Whether the error means that there is no such file for this server. If not, the file may be there."""
    return error.errno in _ABSENCE


class BadRequest(ImgserverError):
    status, code, title, cache_seconds = 400, "bad-request", "The request is not understood", 300


class BadOption(BadRequest):
    """facts, as far as they apply: argument, value, allowed, nearest, at (offset in the request target)."""

    code, title = "bad-option", "An option is wrong"


class BadSourcePath(BadRequest):
    code, title = "bad-source-path", "The source path is not well formed"


class OutputOverLimit(BadRequest):
    code, title = "output-over-limit", "The requested image is too large"


class MalformedRequest(BadRequest):
    code, title, cache_seconds = "malformed-request", "This is no well-formed HTTP request", 0


class Unauthorized(ImgserverError):
    status, code, title = 401, "unauthorized", "An API key is needed"


class Forbidden(ImgserverError):
    status, code, title = 403, "forbidden", "Not allowed"


class AddressDenied(Forbidden):
    code, title = "address-denied", "This client is not served"


class SignatureRefused(Forbidden):
    code, title = "signature-refused", "The signature is missing or wrong"


class SourceDenied(Forbidden):
    code, title = "source-denied", "This source is not allowed"


class NotFound(ImgserverError):
    status, code, title, cache_seconds = 404, "not-found", "There is no such image", 30


class BodyTimeout(ImgserverError):
    status, code, title = 408, "body-timeout", "The request's body took too long"


class Conflict(ImgserverError):
    status, code, title = 409, "conflict", "A file of that name exists already"


class Expired(ImgserverError):
    status, code, title, cache_seconds = 410, "expired", "The link has expired", 3600


class PreconditionFailed(ImgserverError):
    status, code, title = 412, "precondition-failed", "The image is not in the state that the request names"


class BodyTooLarge(ImgserverError):
    status, code, title = 413, "body-too-large", "The request's body is too large"


class TargetTooLong(ImgserverError):
    status, code, title, cache_seconds = 414, "target-too-long", "The URL is too long", 300


class UnsupportedImage(ImgserverError):
    status, code, title, cache_seconds = 415, "unsupported-image", "The source is not a supported image", 300


class Unprocessable(ImgserverError):
    status, code, title, cache_seconds = 422, "unprocessable", "The source cannot be processed", 600


class BrokenImage(Unprocessable):
    code, title = "broken-image", "The source is truncated or corrupt"


class ImageOverLimit(Unprocessable):
    code, title = "image-over-limit", "The source is over a limit"


class FramesLost(Unprocessable):
    code, title = "frames-lost", "The result would not hold all frames of the source"


class Quarantined(Unprocessable):
    code, title = "quarantined", "This image is in quarantine: rendering it killed workers"


class QuotaExceeded(ImgserverError):
    """facts: retry_after in whole seconds."""

    status, code, title = 429, "quota-exceeded", "Too many requests from this client"


class TooManyFailures(QuotaExceeded):
    code, title = "too-many-failures", "Too many wrong keys from this client"


class HeaderTooLarge(ImgserverError):
    status, code, title = 431, "header-too-large", "The header of the request is too large"


class ServerFault(ImgserverError):
    code = "server-fault"


class NotInThisBuild(ImgserverError):
    status, code, title, cache_seconds = 501, "not-in-this-build", "Known, but not available in this build", 300


class SourceFailed(ImgserverError):
    status, code, title = 502, "source-failed", "The server of the original failed"


class Unavailable(ImgserverError):
    """facts: reason; retry_after in whole seconds."""

    status, code, title = 503, "unavailable", "The server cannot process this now"


class OriginalBusy(Unavailable):
    code, title = "original-busy", "Too many new renditions of this original; try again shortly"


class Overloaded(Unavailable):
    code, title = "overloaded", "The server is at its limit; try again shortly"


class WorkerLost(Unavailable):
    code, title = "worker-lost", "The worker of this render was lost"


class DeadlineExceeded(ImgserverError):
    status, code, title = 504, "deadline-exceeded", "The render took too long"
