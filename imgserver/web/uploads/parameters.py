"""The parameters of an upload, from its query and its form, in the language of image URLs.

`options=w_800,q_80/e_sharpen` is the part of a URL between /img/ and the path; `w=800&q=80` is the same for a single
segment. The other parameters are `store`, `replace` and `data`.
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
from imgserver.plan.formats import FORMATS, format_of_suffix
from imgserver.plan.plan import ImageRequest, Plan, SourceRef
from imgserver.security.signing import NO_KEYS

Pairs = Sequence[tuple[str, str]]

# The parameters that are no option of a URL.
UPLOAD_PARAMETERS = ("options", "store", "replace", "data", "async")
# Stands for the original in the URL that the parser builds. No source opens it.
PLACEHOLDER = SourceRef("upload", "original")
# Characters that stay unquoted, as in a URL (RFC 3986, 3.3). In the value of a single option, a comma or a slash is
# quoted: the value must not begin another option or segment.
SAFE_IN_OPTIONS = "/-._~!$'()*+;=:@&,"
SAFE_IN_VALUE = "-._~!$'()*+;=:@&"
MAX_PARAMETERS = 64
OPTIONS_HINT = "options are key_value, separated by commas; segments are separated by /"


@dataclass(frozen=True, slots=True)
class UploadOptions:
    request: ImageRequest
    store: str | None = None
    """The path of the result in the source for uploads; None when the result is not stored."""
    replace: bool = False
    """Whether the result may replace a stored file."""
    data: bool = False
    """Whether the response is JSON that contains the results."""

    def plan(self, accept: str | None) -> Plan:
        """The plan for a client with this Accept header."""
        plan = self.request.plan
        return replace(plan, output=negotiate(plan.output, offers(accept)))


def parse_query(raw_query: str) -> Pairs:
    """The parameters, decoded once. Raises BadRequest."""
    try:
        return parse_qsl(raw_query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise BadRequest("The query is not UTF-8, or has too many parameters") from error


class ParameterParser:
    """Uses a dialect without sources and keys: an upload names no original and needs no signature."""

    def __init__(self, settings: NativeSettings, presets: Mapping[str, str] | None = None) -> None:
        self._dialect = NativeDialect(settings, {PLACEHOLDER.source}, PLACEHOLDER.source, presets=presets)

    def adopt(self, presets: Mapping[str, str]) -> None:
        """Uses other presets from the next upload on."""
        self._dialect.adopt(presets=presets, keyring=NO_KEYS)

    def parse(self, parameters: Pairs) -> UploadOptions:
        """Raises BadRequest and its subclasses, and NotInThisBuild, as for a URL."""
        own: dict[str, str] = {}
        options: list[tuple[str, str]] = []
        for name, value in parameters:
            if name in OPTIONS:
                options.append((name, value))
            elif name in UPLOAD_PARAMETERS and name not in own:
                own[name] = value
            else:
                raise _bad_name(name, repeated=name in own)
        if _parse_switch(own, "async"):
            raise NotInThisBuild("async: an upload is answered when its result is ready", argument="async")
        parsed = UploadOptions(
            request=self._parse_options(own.get("options", ""), options),
            store=own.get("store"),
            replace=_parse_switch(own, "replace"),
            data=_parse_data(own.get("data")),
        )
        return parsed if parsed.store is None else _with_stored_format(parsed, parsed.store)

    def _parse_options(self, text: str, options: Pairs) -> ImageRequest:
        """Builds a URL of the options and has the dialect parse it."""
        if text and options:
            name = options[0][0]
            raise BadRequest(f"options and {name}: write {name}_... into options, or send all options as parameters")
        # Quoted again after decoding: the dialect decodes every value once.
        segment = ",".join(f"{name}_{quote(value, safe=SAFE_IN_VALUE)}" for name, value in options)
        path = quote(text.strip("/"), safe=SAFE_IN_OPTIONS) or segment
        url = "/".join(filter(None, (self._dialect.mount[:-1], path, PLACEHOLDER.path)))
        try:
            request = self._dialect.parse(url)
        except (BadSourcePath, Forbidden) as error:
            raise _bad_options(text, OPTIONS_HINT) from error
        except ImgserverError as error:
            # The offset in `options` instead of the offset in the URL that was built here.
            at = error.facts.pop("at", None)
            if text and at is not None:
                error.facts["at"] = at - len(self._dialect.mount)
            raise
        if request.ref != PLACEHOLDER:
            raise _bad_options(text, request.not_found_hint or OPTIONS_HINT)
        return request


def _with_stored_format(options: UploadOptions, path: str) -> UploadOptions:
    """The options with the format that the suffix of `store` names. The path is checked when its URL is built."""
    plan, suffix = options.request.plan, PurePosixPath(path).suffix.lower()
    row = format_of_suffix(suffix)
    if row is None or not row.writable or plan.terminal.kind != "image":
        suffixes = ", ".join(suffix for known in FORMATS.values() if known.writable for suffix in known.suffixes)
        allowed = f"a path that ends in one of {suffixes}"
        raise BadRequest(
            f"store: needs {allowed}, and a result that is an image",
            argument="store",
            value=path[:200],
            allowed=allowed,
        )
    if plan.output.format not in ("source", "auto", row.name):
        detail = f"store: the suffix {suffix} contradicts the format f_{plan.output.format}"
        raise BadRequest(detail, argument="store", value=path[:200])
    plan = replace(plan, output=replace(plan.output, format=row.name))
    return replace(options, request=replace(options.request, plan=plan))


def _parse_switch(own: Mapping[str, str], name: str) -> bool:
    """True also for a parameter without a value."""
    value = own.get(name, "0")
    if value not in ("", "0", "1", "false", "true"):
        raise BadRequest(f"{name}: must be 1 or 0", argument=name, value=value[:200], allowed="1, 0")
    return value in ("", "1", "true")


def _parse_data(value: str | None) -> bool:
    if value not in (None, "base64"):
        raise BadRequest("data: must be base64", argument="data", value=value[:200], allowed="base64")
    return value is not None


def _bad_options(text: str, hint: str) -> BadOption:
    return BadOption(f"options: {text[:200]}: {hint}", argument="options", value=text[:200])


def _bad_name(name: str, *, repeated: bool) -> BadRequest:
    if repeated:
        return BadRequest(f"{name}: sent twice", argument=name)
    known = {name: name for name in UPLOAD_PARAMETERS} | KEYS_BY_NAME
    near = known.get(nearest(name, tuple(known)) or "")
    hint = f"; nearest: {near}" if near else f"; the parameters are {', '.join((*UPLOAD_PARAMETERS, *OPTIONS))}"
    return BadRequest(f"there is no parameter {name[:60]}{hint}", argument=name[:60], nearest=near)
