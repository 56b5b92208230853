"""Request accounting, read from /metrics: every request for a picture must have exactly one outcome."""

import re
from collections import Counter
from collections.abc import Mapping

# The statuses that each group of outcomes may have. Groups, because one status belongs to several outcomes: a 200 is a
# hit for one request and a render for the next.
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
_SERIES = re.compile(r'^imgserver_http_requests_total\{[^}]*route="image"[^}]*\}', re.M)


def balance(metrics: str) -> list[str]:
    """The faults in the accounting, one sentence each; empty if every request for a picture has one outcome that
    matches its status. `metrics` is the text of /metrics."""
    requests, outcomes = _counts(_REQUESTS, metrics), _counts(_OUTCOMES, metrics)
    faults = [] if len(_SERIES.findall(metrics)) == len(_REQUESTS.findall(metrics)) else ["requests cannot be read"]
    if unknown := set(outcomes) - {name for names in GROUPS for name in names}:
        faults.append(f"unknown outcomes: {sorted(unknown)}")
    for names, pattern in GROUPS.items():
        counted = sum(outcomes[name] for name in names)
        answered = sum(count for status, count in requests.items() if pattern.fullmatch(status))
        if counted != answered:
            faults.append(f"{counted:g} {'+'.join(names)}, but {answered:g} responses with {pattern.pattern}")
    if outcomes.total() != requests.total():
        faults.append(f"{outcomes.total():g} outcomes of {requests.total():g} requests")
    return faults


def _counts(line: re.Pattern[str], metrics: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, count in line.findall(metrics):
        counts[name] += float(count)
    return counts
