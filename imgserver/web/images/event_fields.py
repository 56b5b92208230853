"""What the access log says about a response with an image, besides the fields of every request."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from imgserver.plan.formats import format_of_media_type
from imgserver.plan.rendition import Stages
from imgserver.rendering.variants import ServedRendition


@lru_cache
def hit_fields(media_type: str) -> Mapping[str, Any]:
    """The fields of a hit in memory, one object for all hits of a media type."""
    return {"format": format_name(media_type), "tier": "memory"}


def event_fields(served: ServedRendition) -> Mapping[str, Any]:
    """`format`; `tier`, the cache tier that had the rendition, or `stages`, the seconds of each stage of the render;
    `degraded`, how the rendition is degraded."""
    fields: dict[str, Any] = {"format": format_name(served.rendition.media_type)}
    if served.tier:
        fields["tier"] = served.tier
    elif served.rendition.stages is not None:
        fields["stages"] = stage_seconds(served.rendition.stages)
    if served.level:
        fields["degraded"] = served.level.name.lower()
    return fields


def stage_seconds(stages: Stages) -> dict[str, float]:
    """The seconds of each stage of a render, in their order."""
    return {
        "queue": round(stages.queue_seconds, 6),
        "fetch": round(stages.fetch_seconds, 6),
        "decode": round(stages.decode_seconds, 6),
        "transform": round(stages.transform_seconds, 6),
        "encode": round(stages.encode_seconds, 6),
    }


def format_name(media_type: str) -> str:
    """`webp`; the media type itself for a rendition that is not an image, such as that of `f_info`."""
    row = format_of_media_type(media_type)
    return row.name if row else media_type
