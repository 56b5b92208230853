"""Workers that are always free: the admission alone decides how many of them are taken."""

from collections.abc import Callable

from imgserver.errors import Unavailable


class FreeWorkers:
    """`unavailable_error` is what an unavailable pool refuses every render with."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.unavailable_error: Unavailable | None = None
        self.given_back = 0
        self.changed: Callable[[], None] = lambda: None

    def subscribe(self, on_change: Callable[[], None]) -> None:
        self.changed = on_change

    def take(self) -> object:
        return object()

    def give_back(self, worker: object) -> None:
        self.given_back += 1

    def unavailable(self) -> Unavailable | None:
        return self.unavailable_error
