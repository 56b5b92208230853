"""Objects that refer to each other in a cycle wait for the garbage collector, and hold memory until then."""

import gc
from collections.abc import Awaitable, Callable


async def assert_no_cycles(attempt: Callable[[], Awaitable[None]]) -> None:
    """Raises AssertionError if `attempt` leaves objects that only the garbage collector can free."""
    await attempt()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            await attempt()
        assert gc.collect() == 0
    finally:
        gc.enable()
