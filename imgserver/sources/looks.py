"""What an original looked like a moment ago, so that hits do not ask the source each time."""

import time
from collections import OrderedDict
from collections.abc import Callable

from imgserver.plan import SourceRef
from imgserver.rendition import Fingerprint

TRUST_SECONDS = 1.0
REMEMBERED = 16_384


class RecentLooks:
    """Remembers fingerprints for TRUST_SECONDS: as long is a replaced photograph still served as it was."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: OrderedDict[SourceRef, tuple[Fingerprint, float]] = OrderedDict()

    def note(self, ref: SourceRef, fingerprint: Fingerprint) -> None:
        self._looks[ref] = (fingerprint, self._clock() + TRUST_SECONDS)
        self._looks.move_to_end(ref)
        if len(self._looks) > REMEMBERED:
            self._looks.popitem(last=False)

    def forget(self, ref: SourceRef) -> None:
        self._looks.pop(ref, None)

    def recall(self, ref: SourceRef) -> Fingerprint | None:
        look = self._looks.get(ref)
        if look is None or look[1] < self._clock():
            return None
        return look[0]
