"""CDN-Loop: the servers that have forwarded a request (RFC 8586)."""

import re

_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)


def cdn_ids(value: str) -> frozenset[str]:
    """The ids in the value of CDN-Loop, in lower case. An id is a pseudonym, or a host with an optional port; the
    parameters behind it are not its part, whatever they contain."""
    members = _QUOTED_STRING.sub("", value).split(",")
    return frozenset(member.partition(";")[0].strip().lower() for member in members)
