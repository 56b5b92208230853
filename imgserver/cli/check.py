"""One finding of `imgserver doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """`needed`: without it the server does not do its work. `fix` is empty when all is well."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed: bool = True
