"""The settings of the admission queue."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval, doc


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """The bounds of the admission queue."""

    max_waiting: Annotated[int, Interval(ge=1, le=100_000), doc("requests that may wait for a worker")] = 256
    deadline_seconds: Annotated[
        float,
        Interval(ge=0.1, le=600),
        doc("longest time from admission to the rendition; keep it below the CDN's origin time-out"),
    ] = 10.0
    max_decoded_bytes: Annotated[
        int,
        Interval(ge=0),
        doc("estimated memory of all images being decoded; 0: a quarter of the memory granted"),
    ] = 0
    degrade: Annotated[
        bool, doc("whether misses are rendered cheaper, in quicker formats, while the queue is long")
    ] = True
    standing_seconds: Annotated[
        float,
        Interval(ge=0.1, le=60),
        doc("how long waits may last before the newest are served first, and refusals before the queue is shortened"),
    ] = 1.0
