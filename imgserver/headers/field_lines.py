"""Several lines of one header field (RFC 9110, 5.3)."""

from multidict import MultiMapping


def combined(headers: MultiMapping[str], name: str) -> str | None:
    """The value of a field: its lines in their order, joined by commas; None if there is none.

    For a field that is no list, two lines make a value that no parser accepts: the field then counts as malformed.
    """
    lines = headers.getall(name, ())
    # Nearly always there is one.
    return lines[0] if len(lines) == 1 else ", ".join(lines) if lines else None
