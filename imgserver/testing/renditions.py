"""Renditions for tests."""

import dataclasses
from typing import Any

from imgserver.plan.plan import Dims
from imgserver.plan.rendition import Fingerprint, Rendition


def make_rendition(body: bytes = b"picture", **changes: Any) -> Rendition:
    """A rendition without a render; any field can be changed by name."""
    plain = Rendition(
        body=body,
        media_type="image/webp",
        etag="0" * 32,
        size=Dims(4, 3),
        source_format="jpg",
        fingerprint=Fingerprint("as it was"),
        modified=0,
        created=0.0,
        render_seconds=0.1,
    )
    return dataclasses.replace(plain, **changes)
