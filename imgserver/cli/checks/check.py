"""One result of `imgserver doctor`."""

from collections.abc import Callable
from dataclasses import dataclass

from imgserver.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """`needed`: the server cannot do its work unless this is ok. `fix` says how to repair it; empty if it is ok."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed: bool = True


def attempt(check: Callable[[Settings], Check], settings: Settings) -> Check:
    """The result of a check. A check that raises has failed; the others must still run."""
    try:
        return check(settings)
    except Exception as error:
        name = check.__name__.strip("_").replace("_", " ")
        return Check(name, False, f"{type(error).__name__}: {error}", "report this as a bug")
