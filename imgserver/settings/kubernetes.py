"""Variables that Kubernetes sets in every container for a Service, and that look like settings of this server.

A Service named `imgserver` sets IMGSERVER_PORT=tcp://10.0.0.1:8080, IMGSERVER_SERVICE_HOST and others ("Environment
variables" in the Kubernetes documentation of Services; the links of Docker have the same form). A Service named
`imgserver-server` even sets IMGSERVER_SERVER_PORT, the variable of a setting.
"""

import re

_ADDRESS = r"(?:tcp|udp|sctp)://[0-9A-Fa-f.:\[\]]+:[0-9]+"
_HOST = r"[0-9A-Fa-f.:]+"
# The end of the name, and the form of the value. The form tells such a variable from a misspelt setting.
_FORMS = tuple(
    re.compile(f"{name}={value}")
    for name, value in (
        (r"(?:[A-Z0-9_]+_)?PORT(?:_[0-9]+_(?:TCP|UDP|SCTP))?", _ADDRESS),
        (r"(?:[A-Z0-9_]+_)?PORT_[0-9]+_(?:TCP|UDP|SCTP)_PROTO", r"(?:tcp|udp|sctp)"),
        (r"(?:[A-Z0-9_]+_)?PORT_[0-9]+_(?:TCP|UDP|SCTP)_PORT", r"[0-9]+"),
        (r"(?:[A-Z0-9_]+_)?PORT_[0-9]+_(?:TCP|UDP|SCTP)_ADDR", _HOST),
        (r"(?:[A-Z0-9_]+_)?SERVICE_HOST", _HOST),
        (r"(?:[A-Z0-9_]+_)?SERVICE_PORT(?:_[A-Z0-9_]+)?", r"[0-9]+"),
    )
)


def is_service_variable(name: str, value: str) -> bool:
    """Whether a variable, whose name is given without IMGSERVER_, describes a Service."""
    return any(form.fullmatch(f"{name}={value}") for form in _FORMS)
