from imgserver.plan import SourceRef
from imgserver.rendition import Fingerprint
from imgserver.sources import looks
from imgserver.sources.looks import RecentLooks

REF = SourceRef("photos", "cat.png")
SEEN = Fingerprint("seen")


def test_a_look_is_recalled_until_its_trust_ends():
    now = 100.0
    recent = RecentLooks(lambda: now)
    recent.note(REF, SEEN)

    assert recent.recall(REF) == SEEN
    now += looks.TRUST_SECONDS + 0.001
    assert recent.recall(REF) is None


def test_what_was_never_seen_is_not_recalled():
    assert RecentLooks().recall(REF) is None


def test_the_memory_of_looks_is_bounded(monkeypatch):
    monkeypatch.setattr(looks, "REMEMBERED", 2)
    recent = RecentLooks(lambda: 0.0)
    for number in range(5):
        recent.note(SourceRef("photos", str(number)), SEEN)

    assert [recent.recall(SourceRef("photos", str(number))) is not None for number in range(5)] == [False] * 3 + [
        True
    ] * 2
