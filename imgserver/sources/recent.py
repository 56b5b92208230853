"""What was learnt a moment ago, and is not asked again at once."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")

REMEMBERED = 16_384


class Recent(Generic[V]):
    """Values by path for some seconds, the REMEMBERED latest of them."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._values: OrderedDict[str, tuple[V, float]] = OrderedDict()

    def note(self, path: str, value: V) -> None:
        self._values[path] = (value, self._clock() + self._seconds)
        self._values.move_to_end(path)
        if len(self._values) > REMEMBERED:
            self._values.popitem(last=False)

    def recall(self, path: str) -> V | None:
        found = self._values.get(path)
        return found[0] if found is not None and self._clock() < found[1] else None

    def forget(self, path: str) -> None:
        self._values.pop(path, None)

    def clear(self) -> None:
        self._values.clear()
