"""What an upload asks for: the parameters of its query and of its form, in the words of the URLs.

`options=w_800,q_80/e_sharpen` is what stands between /img/ and the path in a URL; `w=800&q=80` is the same for one
segment. The rest: `store`, `replace`, `data`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, quote

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.dialects.native.messages import nearest
from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.segment import KEYS_BY_NAME
from imgserver.errors import BadOption, BadRequest, BadSourcePath, Forbidden, ImgserverError, NotInThisBuild
from imgserver.headers.negotiation import negotiate, offers
from imgserver.plan.formats import FORMAT_OF_SUFFIX, WRITABLE
from imgserver.plan.plan import ImageRequest, Plan, SourceRef
from imgserver.security.signing import NO_KEYS

Pairs = Sequence[tuple[str, str]]

OWN = ("options", "store", "replace", "data", "async")
# What a parsed URL would name as its original; nobody looks it up.
UPLOADED = SourceRef("upload", "original")
# As in a URL (RFC 3986, 3.3); a parameter's own value may not begin another option or segment.
IN_OPTIONS = "/-._~!$'()*+;=:@&,"
IN_VALUE = "-._~!$'()*+;=:@&"
MOST_PARAMETERS = 64
HINT = "they are key_value, joined by commas, segments by /"


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """`store` is the path that the result gets in the writable source, or None. `data`: the result inside the JSON."""

    request: ImageRequest
    store: str | None = None
    replace: bool = False
    data: bool = False

    def plan(self, accept: str | None) -> Plan:
        """What the worker is asked for, by a client that accepts this."""
        plan = self.request.plan
        return replace(plan, output=negotiate(plan.output, offers(accept)))


def parse_query(raw_query: str) -> Pairs:
    """Decoded once. Raises BadRequest."""
    try:
        return parse_qsl(raw_query, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError as error:
        raise BadRequest("The query is not UTF-8, or has too many parameters") from error


class ParameterParser:
    """Reads parameters. `dialect` is one of its own: what is uploaded needs no signature, and has no source."""

    def __init__(self, settings: NativeSettings, presets: Mapping[str, str] | None = None) -> None:
        self._dialect = NativeDialect(settings, {UPLOADED.source}, UPLOADED.source, presets=presets)

    def adopt(self, presets: Mapping[str, str]) -> None:
        self._dialect.adopt(presets=presets, keyring=NO_KEYS)

    def read(self, pairs: Pairs) -> UploadOptions:
        """Raises BadRequest and its kinds, NotInThisBuild, as for a URL."""
        own: dict[str, str] = {}
        options: list[tuple[str, str]] = []
        for name, value in pairs:
            if name in OPTIONS:
                options.append((name, value))
            elif name in OWN and name not in own:
                own[name] = value
            else:
                raise _unknown(name, twice=name in own)
        if _is_on(own, "async"):
            raise NotInThisBuild("async: uploads are answered when they are done", argument="async")
        wants = UploadOptions(
            request=self._parsed(own.get("options", ""), options),
            store=own.get("store"),
            replace=_is_on(own, "replace"),
            data=_is_base64(own.get("data")),
        )
        return wants if wants.store is None else _stored(wants, wants.store)

    def _parsed(self, text: str, options: Pairs) -> ImageRequest:
        if text and options:
            named = options[0][0]
            raise BadRequest(f"options and {named}: write {named}_... into options, or all as parameters")
        # Decoded texts are quoted again: whoever reads options decodes each once.
        segment = ",".join(f"{name}_{quote(value, safe=IN_VALUE)}" for name, value in options)
        written = quote(text.strip("/"), safe=IN_OPTIONS) or segment
        try:
            request = self._dialect.parse("/".join(filter(None, (self._dialect.mount[:-1], written, UPLOADED.path))))
        except (BadSourcePath, Forbidden) as error:
            raise _no_options(text, HINT) from error
        except ImgserverError as error:
            at = error.facts.pop("at", None)
            if text and at is not None:
                error.facts["at"] = at - len(self._dialect.mount)
            raise
        if request.ref != UPLOADED:
            raise _no_options(text, request.mistaken or HINT)
        return request


def _no_options(text: str, hint: str) -> BadOption:
    return BadOption(f"options: {text[:200]}: {hint}", argument="options", value=text[:200])


def _stored(wants: UploadOptions, path: str) -> UploadOptions:
    """With the format that the name tells. The path itself is judged when its URL is built."""
    plan, suffix = wants.request.plan, PurePosixPath(path).suffix.lower()
    name = FORMAT_OF_SUFFIX.get(suffix)
    if name not in WRITABLE or plan.terminal.kind != "image":
        allowed = "a path that ends in " + ", ".join(s for s, f in FORMAT_OF_SUFFIX.items() if f in WRITABLE)
        raise BadRequest(f"store: {allowed}; for pictures", argument="store", value=path[:200], allowed=allowed)
    if plan.output.format not in ("source", "auto", name):
        detail = f"store: {suffix} is not the format of f_{plan.output.format}"
        raise BadRequest(detail, argument="store", value=path[:200])
    plan = replace(plan, output=replace(plan.output, format=name))
    return replace(wants, request=replace(wants.request, plan=plan))


def _is_on(own: dict[str, str], name: str) -> bool:
    value = own.get(name, "0")
    if value not in ("", "0", "1", "false", "true"):
        raise BadRequest(f"{name}: 1 or 0", argument=name, value=value[:200], allowed="1, 0")
    return value in ("", "1", "true")


def _is_base64(value: str | None) -> bool:
    if value not in (None, "base64"):
        raise BadRequest("data: base64", argument="data", value=value[:200], allowed="base64")
    return value is not None


def _unknown(name: str, *, twice: bool) -> BadRequest:
    if twice:
        return BadRequest(f"{name}: written twice", argument=name)
    known = {name: name for name in OWN} | KEYS_BY_NAME
    near = known.get(nearest(name, tuple(known)) or "")
    tail = f"; nearest: {near}" if near else f"; there are {', '.join((*OWN, *OPTIONS))}"
    return BadRequest(f"no parameter {name[:60]}{tail}", argument=name[:60], nearest=near)
