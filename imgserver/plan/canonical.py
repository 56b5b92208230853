"""The identity of a plan: its canonical text, and the cache key.

Two URLs for the same image have one key, whatever their dialect and the order of their options.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from fractions import Fraction
from hashlib import sha256
from typing import Any, get_args

from imgserver.plan.normalization import normalize
from imgserver.plan.plan import (
    PLAN_VERSION,
    Anchor,
    Color,
    Output,
    Plan,
    Px,
    Rel,
    SourceRef,
    Step,
    Terminal,
)
from imgserver.plan.rendition import Fingerprint

# The first part of every key is a digest of how the server renders (its pipeline). This one stands for no settings.
PIPELINE_DIGITS = 8
VERSION_DIGITS = 16
DEFAULT_PIPELINE = "0" * PIPELINE_DIGITS
DIGEST_DIGITS = 32
_HEX = "[0-9a-f]"


def canonical(plan: Plan) -> str:
    """The plan as one line of text: the fields that differ from their defaults, in declared order.

    For example `orient;fit(width=800)|format=webp,quality=80`. A terminal other than the image follows a second bar.
    """
    text = ";".join(map(_serialize_value, plan.steps)) + "|" + _serialize_fields(plan.output)
    return text if plan.terminal == Terminal() else f"{text}|{_serialize_fields(plan.terminal)}"


def plan_digest(plan: Plan) -> str:
    """A digest of the plan in 32 hex digits, equal for equal images: the plan is normalized first. Its output must be
    negotiated before."""
    return digest(str(PLAN_VERSION), canonical(normalize(plan)))


def identified(ref: SourceRef, identities: Mapping[str, str]) -> SourceRef:
    """The original with the identity of its source instead of the name, for keys and cache groups.

    A name means what the settings of one server say. Two servers on one Redis, or one server before and after a change
    of its settings, may use it for different folders or web servers. `identities` are by name; a source without one is
    identified by its name.
    """
    return SourceRef(identities.get(ref.source, ref.source), ref.path)


def source_digest(ref: SourceRef) -> str:
    """A digest of an original in 32 hex digits: the part that the keys of all its renditions share. `ref` is
    `identified`."""
    return digest(ref.source, ref.path)


def key(ref: SourceRef, plan: Plan, *, pipeline: str = DEFAULT_PIPELINE) -> str:
    """The cache key of a rendition: `<pipeline>/<version>/<source digest>/<plan digest>`. `ref` is `identified`."""
    return f"{pipeline}/{PLAN_VERSION}/{source_digest(ref)}/{plan_digest(plan)}"


def key_pattern(source_digits: str = "") -> str:
    """A glob pattern for the keys of all pipelines and versions, or for those whose source digest begins with the
    digits.

    It matches nothing of another form, so that a search in Redis finds neither locks nor generations nor keys of other
    programs.
    """
    source = source_digits + _HEX * (DIGEST_DIGITS - len(source_digits))
    return "/".join((_HEX * PIPELINE_DIGITS, "[0-9]*", source, _HEX * DIGEST_DIGITS))


def version_of(fingerprint: Fingerprint) -> str:
    """The version of an original in 16 hex digits, for URLs: it changes whenever the original does. Nobody can name the
    version of an original that is not published yet."""
    return digest(fingerprint)[:VERSION_DIGITS]


def digest(*texts: str) -> str:
    """A digest of texts in 32 hex digits. Each text is prefixed with its length, so that no two lists of texts run
    together."""
    hasher = sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(4, "big") + data)
    return hasher.hexdigest()[:DIGEST_DIGITS]


def _declared(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (field.name, field.default if field.default_factory is MISSING else field.default_factory())
        for field in fields(kind)
    )


# Field names with their defaults, in declared order.
_DECLARED = {kind: _declared(kind) for kind in (*get_args(Step), Anchor, Output, Terminal)}


def _serialize_fields(value: Any) -> str:
    texts = []
    for name, default in _DECLARED[type(value)]:
        item = getattr(value, name)
        if item is not default and item != default:
            texts.append(f"{name}={_serialize_value(item)}")
    return ",".join(texts)


def _serialize_value(value: Any) -> str:
    serialize = _SERIALIZERS.get(type(value))
    if serialize is not None:
        return serialize(value)
    inner = _serialize_fields(value)
    name = type(value).__name__.lower()
    return f"{name}({inner})" if inner else name


_SERIALIZERS: dict[type[Any], Callable[[Any], str]] = {
    str: str,
    int: str,
    Fraction: str,
    type(None): lambda _: "none",
    bool: lambda value: "yes" if value else "no",
    tuple: lambda items: "(" + ",".join(map(_serialize_value, items)) + ")",
    Px: lambda length: str(length.value),
    Rel: lambda length: f"{length.share}*",  # the asterisk stands for the length of the axis
    Color: lambda color: f"#{color.red:02x}{color.green:02x}{color.blue:02x}{color.alpha:02x}",
}
