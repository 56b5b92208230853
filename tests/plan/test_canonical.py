"""Equal images have one key, and different images have different keys."""

from dataclasses import replace
from fnmatch import fnmatchcase
from hashlib import sha256

import pytest

from imgserver.plan.canonical import (
    DEFAULT_PIPELINE,
    canonical,
    key,
    key_pattern,
    plan_digest,
    source_digest,
)
from imgserver.plan.normalization import normalize
from imgserver.plan.plan import (
    PLAN_VERSION,
    Fit,
    Kernel,
    Orient,
    Output,
    Plan,
    Px,
    SourceRef,
    Step,
    Terminal,
    Tone,
)


def text_of(*steps: Step, output: Output | None = None) -> str:
    return canonical(normalize(Plan(steps, output or Output())))


def test_the_canonical_text_has_the_fields_that_differ_from_the_defaults_in_declared_order() -> None:
    plan = Plan((Orient(), Fit(Px(800))), Output(quality=80, format="webp"))

    assert canonical(plan) == "orient;fit(width=800)|format=webp,quality=80"


def test_an_empty_plan_has_the_shortest_text() -> None:
    assert canonical(Plan()) == "|"


def test_the_terminal_follows_a_second_bar() -> None:
    assert canonical(Plan(terminal=Terminal("palette", 7))) == "||kind=palette,colors=7"


def test_the_key_contains_pipeline_version_source_and_plan() -> None:
    ref = SourceRef("photos", "cat.jpg")
    _, version, source, plan = key(ref, Plan()).split("/")

    assert (version, source, plan) == (str(PLAN_VERSION), source_digest(ref), plan_digest(Plan()))
    assert len(source) == len(plan) == 32


def test_the_key_pattern_matches_every_key_and_nothing_of_another_form() -> None:
    ref = SourceRef("photos", "cat.jpg")
    keys = [key(ref, Plan(), pipeline=pipeline) for pipeline in ("00000000", "9abcdef0", "ffffffff")]
    others = [f"lock:{keys[0]}", "mark:a", "mark:s0123456789abcdef", "probe", "purges", "queue/1/a/b", keys[0][:-1]]

    for pattern in (key_pattern(), key_pattern(source_digest(ref)[:16]), key_pattern(source_digest(ref))):
        assert [one for one in (*keys, *others) if fnmatchcase(one, pattern)] == keys
    assert not fnmatchcase(keys[0], key_pattern(source_digest(SourceRef("photos", "dog.jpg"))[:16]))


def test_the_digest_is_of_length_prefixed_fields() -> None:
    assert source_digest(SourceRef("ab", "c")) != source_digest(SourceRef("a", "bc"))
    assert (
        plan_digest(Plan())
        == sha256(b"\x00\x00\x00\x01" + str(PLAN_VERSION).encode() + b"\x00\x00\x00\x01" + b"|").hexdigest()[:32]
    )


def test_a_new_version_changes_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_digest(Plan())
    monkeypatch.setattr("imgserver.plan.canonical.PLAN_VERSION", PLAN_VERSION + 1)

    assert plan_digest(Plan()) != before
    assert key(SourceRef("a", "b"), Plan()).startswith(f"{DEFAULT_PIPELINE}/{PLAN_VERSION + 1}/")


def test_the_order_of_steps_matters() -> None:
    gray, blur = Tone("grayscale"), Kernel("blur", 4)

    assert text_of(gray, blur) != text_of(blur, gray)
    assert replace(Plan(), steps=(gray,)) != Plan()
