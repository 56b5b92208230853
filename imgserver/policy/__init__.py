"""Who may ask, how often, and for what: the operator's rules, as values.

values.py are the rules; networks.py looks addresses up in lists of networks; clients.py tells whose address a request
comes from when proxies stand between. Nothing here does any I/O; policyfile.py reads the rules from YAML.
"""

from imgserver.policy.values import (
    ClientLists,
    FormatLists,
    PixelLimits,
    Policy,
    Proxies,
    Rate,
    Rates,
    UploadLimits,
)

__all__ = ["ClientLists", "FormatLists", "PixelLimits", "Policy", "Proxies", "Rate", "Rates", "UploadLimits"]
