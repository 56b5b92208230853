"""The ledger of a running server, read from /metrics: what was answered and what became of it must be the same sum."""

import re
from collections import Counter
from collections.abc import Mapping

# The statuses each outcome may have been answered with. Whole groups, because one status has several outcomes: a 200 is
# a hit for one request and a render for the next.
PICTURES = ("hit", "stale", "joined", "rendered")
GROUPS: Mapping[tuple[str, ...], re.Pattern[str]] = {
    PICTURES: re.compile("200|206"),
    ("not_modified",): re.compile("304"),
    ("preflight",): re.compile("204"),
    ("refused",): re.compile("4(?!99)..|501"),
    ("shed",): re.compile("503"),
    ("failed",): re.compile("5(?!01|03).."),
    ("client_disconnected",): re.compile("499"),
}

_REQUESTS = re.compile(r'^imgserver_http_requests_total\{method="[^"]*",route="image",status="(\d+)"\} (\S+)$', re.M)
_OUTCOMES = re.compile(r'^imgserver_lookups_total\{outcome="(\w+)"\} (\S+)$', re.M)
_FORMS = re.compile(r'^imgserver_http_requests_total\{[^}]*route="image"[^}]*\}', re.M)


def balance(metrics: str) -> list[str]:
    """What does not add up in the text of /metrics, in words; empty when each request for a picture has one outcome,
    and that of its status."""
    requests, outcomes = _counts(_REQUESTS, metrics), _counts(_OUTCOMES, metrics)
    faults = [] if len(_FORMS.findall(metrics)) == len(_REQUESTS.findall(metrics)) else ["requests cannot be read"]
    if unknown := set(outcomes) - {name for names in GROUPS for name in names}:
        faults.append(f"outcomes that nobody knows: {sorted(unknown)}")
    for names, pattern in GROUPS.items():
        told = sum(outcomes[name] for name in names)
        asked = sum(count for status, count in requests.items() if pattern.fullmatch(status))
        if told != asked:
            faults.append(f"{told:g} {'+'.join(names)}, and {asked:g} answers of {pattern.pattern}")
    if outcomes.total() != requests.total():
        faults.append(f"{outcomes.total():g} outcomes of {requests.total():g} requests")
    return faults


def _counts(line: re.Pattern[str], metrics: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, count in line.findall(metrics):
        counts[name] += float(count)
    return counts
