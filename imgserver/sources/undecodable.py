"""What a source does with an original that does not decode: it may be whole in a moment.

A file may still be being written. A download without a length may have been cut. A server that is starting, or that
fails, may have sent a page of text with the status 200. The same bytes are broken for good only if they are still there
when they are no longer young.
"""

from imgserver.errors import BrokenImage, ImgserverError, Unavailable, UnsupportedImage

# A file that was changed within the last seconds may still be being written.
UNFINISHED_SECONDS = 2.0
# The first bytes of every format can be told from each other by these.
LONGEST_SIGNATURE = 16
# No cache may store an error about bytes that have been there for a shorter time.
YOUNG_SECONDS = 60.0
# The clock of a file server may be ahead of ours. A file that is further in the future has a wrong time.
CLOCK_SKEW_SECONDS = 60.0


def does_not_decode(error: BaseException) -> bool:
    """Whether the error is about the bytes of the original. It is not if they are an image of a known format that this
    server does not read."""
    return isinstance(error, BrokenImage) or (isinstance(error, UnsupportedImage) and not error.facts.get("format"))


def lacks_beginning(head: bytes) -> bool:
    """Whether a file that begins with `head` has no first bytes yet, or only the zeros of reserved space."""
    return len(head) < LONGEST_SIGNATURE or not any(head)


def may_be_incomplete(error: BaseException, head: bytes) -> bool:
    """Whether a file that begins with `head` may be a part of an image."""
    return isinstance(error, BrokenImage) or (does_not_decode(error) and lacks_beginning(head))


def refuse_unfinished(age_seconds: float) -> None:
    """`age_seconds`: since the last change of the bytes. Raises Unavailable if they may be incomplete."""
    if -CLOCK_SKEW_SECONDS < age_seconds < UNFINISHED_SECONDS:
        raise unfinished(UNFINISHED_SECONDS)


def unfinished(retry_after_seconds: float) -> Unavailable:
    return Unavailable(
        "The original may be incomplete", reason="unfinished", retry_after=max(1, round(retry_after_seconds))
    )


def mark_young(error: ImgserverError, age_seconds: float) -> None:
    """Adds the fact `young` to an error about bytes that have been there for so long, so that no cache stores it."""
    if -CLOCK_SKEW_SECONDS < age_seconds < YOUNG_SECONDS:
        error.facts["young"] = True
