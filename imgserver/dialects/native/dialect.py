"""The native dialect: a target becomes a request, and a request a target."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

from imgserver.dialects.dialect import DialectConfig
from imgserver.dialects.native.emit import emit
from imgserver.dialects.native.lexer import (
    END_OF_OPTIONS,
    SIGNATURE,
    Envelope,
    Target,
    is_options,
    split_segments,
    split_signature,
)
from imgserver.dialects.native.messages import bad_rule
from imgserver.dialects.native.output import collect_url_options, emit_output
from imgserver.dialects.native.pixel_ratio import apply_pixel_ratio
from imgserver.dialects.native.presets import Presets, check_size_steps, text_faults
from imgserver.dialects.native.segment import Segment, is_auto, parse_segment, suggest_options
from imgserver.dialects.native.settings import NativeSettings
from imgserver.dialects.native.source_path import RESERVED, SourcePaths, encode_remote
from imgserver.dialects.native.validation import check, check_hinted_width
from imgserver.errors import BadOption, BadSourcePath, ImgserverError, SignatureRefused
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import Hint, ImageRequest, Orient, Plan, SourceRef, Step
from imgserver.plan.snapping import SizeSnapping
from imgserver.security.remote_url import REMOTE
from imgserver.security.signing import NO_KEYS, Keyring, SigningKey

# Characters that a path segment may contain unquoted (RFC 3986, 3.3), except the comma, which separates options.
UNQUOTED = "/-._~!$'()*+;=:@&"


class NativeDialect:
    """`/img/w_800,q_80/photo.jpg`; docs/urls.md describes the grammar. Satisfies `dialects.Dialect`."""

    def __init__(
        self,
        settings: NativeSettings,
        sources: Iterable[str],
        default_source: str,
        *,
        mount: str = "/img/",
        presets: Mapping[str, str] | None = None,
        keyring: Keyring = NO_KEYS,
        remote: bool = False,
        client_hints: bool = False,
    ) -> None:
        """Raises ValueError for source names that the grammar does not allow.

        `mount` begins and ends with a slash. `presets` must have no faults (`preset_faults`). `remote`: URLs may name
        originals on other hosts.
        """
        self.settings = settings
        self.client_hints = client_hints
        self._mount = mount
        self._source_paths = SourcePaths(frozenset(sources), default_source, remote)
        self._presets = Presets(settings, presets or {})
        self._keyring = keyring
        self._snapping = SizeSnapping(settings.snap_widths) if settings.snap_widths else None

    @classmethod
    def of(cls, config: DialectConfig) -> "NativeDialect":
        """Raises ValueError for source names that the grammar does not allow."""
        return cls(
            config.native,
            config.sources,
            config.default_source,
            presets=config.presets,
            keyring=config.keyring,
            remote=config.remote,
            client_hints=config.client_hints,
        )

    @property
    def presets(self) -> tuple[str, ...]:
        """The names of the presets."""
        return tuple(self._presets.texts)

    @property
    def mount(self) -> str:
        return self._mount

    def adopt(self, *, presets: Mapping[str, str], keyring: Keyring) -> None:
        """Puts new presets and signing keys into force, from the next call on. `presets` must have no faults."""
        self._presets = Presets(self.settings, presets)
        self._keyring = keyring

    def parse(self, raw_target: str, hints: Hints = NO_HINTS) -> ImageRequest:
        envelope = split_signature(raw_target, self.settings, mount=self._mount)
        key, query_signed = self._check_signature(envelope)
        target = split_segments(envelope, self.settings)
        allowed_hints = hints if self.client_hints else None
        raw_segments = self._presets.expand(target.segments, signed=target.signed)
        segments = [parse_segment(raw, self.settings, allowed_hints) for raw in raw_segments]
        for index, segment in enumerate(segments):
            check(segment, self.settings, first=index == 0)
        if self._snapping is not None and not target.signed:
            check_size_steps(zip(raw_segments, segments, strict=True))
        whole_url = collect_url_options(segments)
        check_hinted_width(segments, whole_url)
        plan = self._plan(segments, whole_url)
        expires = _expiry(whole_url, target)
        ref = self._source_paths.parse(target)
        _check_scope(key, ref)
        return ImageRequest(
            ref=ref,
            plan=plan,
            attachment=whole_url.flags.get("attachment"),
            not_found_hint=_not_found_hint(target),
            signed=target.signed,
            query_signed=query_signed,
            # A whole URL of another host may not have a query, so the query matters there.
            query_ignored=not query_signed and ref.source != REMOTE,
            expires=expires,
            hints=_hints(segments, whole_url, plan) if self.client_hints else (),
        )

    def resolve(self, path: str) -> SourceRef:
        """The original that a path means, as people write it: `shop/mug.jpg` is in the source shop, if there is one.
        The path is not decoded or checked, except that a URL of another host raises BadSourcePath if it is
        malformed."""
        return self._source_paths.resolve(path)

    def build(self, ref: SourceRef, options: str = "", *, query: str = "") -> str:
        """The target for this original with these options (segments joined by `/`), signed if the server answers only
        signed targets. `query` begins with its question mark. Raises what `parse` raises, and BadSourcePath."""
        if self._keyring.required:
            return self.build_signed(ref, options, query=query)
        return self._checked(self.mount + self._rest(ref, options) + query, ref, options)

    def build_signed(self, ref: SourceRef, options: str = "", *, query: str = "") -> str:
        """The target with a signature by the first key that is valid for the source; it covers the query as well.
        Raises SignatureRefused if there is none, and what `build` raises."""
        rest = self._rest(ref, options) + query
        mac = self._keyring.sign(rest, source=ref.source)
        return self._checked(f"{self.mount}s--{mac}--/{rest}", ref, options)

    def can_build(self, ref: SourceRef) -> bool:
        """Whether a target can name this original: a file name may contain what no target may, such as a backslash."""
        try:
            self.build(ref)
        except ImgserverError:
            return False
        return True

    def _check_signature(self, envelope: Envelope) -> tuple[SigningKey | None, bool]:
        """The key that signed the target, None for an unsigned one, and whether the signature covers the query. A query
        that it does not cover may be anything. Raises SignatureRefused."""
        if envelope.mac is not None and envelope.query:
            with suppress(SignatureRefused):
                return self._keyring.check(envelope.mac, envelope.rest + envelope.query), True
        return self._keyring.check(envelope.mac, envelope.rest), False

    def _plan(self, segments: list[Segment], whole_url: Segment) -> Plan:
        output, terminal = emit_output(whole_url)
        steps = _steps(segments)
        if len(steps) > self.settings.max_steps:
            raise BadOption(f"the options make {len(steps)} steps, more than {self.settings.max_steps}")
        ratio, snapping = whole_url.pixel_ratio, self._snapping
        if ratio is not None:
            steps = apply_pixel_ratio(steps, ratio if snapping is None else snapping.snap_pixel_ratio(ratio))
        plan = Plan(steps, output, terminal)
        return plan if snapping is None else snapping.snap(plan)

    def _rest(self, ref: SourceRef, options: str) -> str:
        """The target after the mount and the signature."""
        path = encode_remote(ref.path) if ref.source == REMOTE else self._encode_local(ref)
        return (options.strip("/") + "/" if options.strip("/") else "") + path

    def _encode_local(self, ref: SourceRef) -> str:
        path = quote_source(ref.path)
        first = path.partition("/")[0]
        if ref.source != self._source_paths.default or self._is_taken(first):
            return f"{ref.source}/{path}"
        return f"{END_OF_OPTIONS}/{path}" if needs_escape(first) and "/" in path else path

    def _is_taken(self, first: str) -> bool:
        """Whether a first folder of this name would be read as a source, or as the beginning of a URL."""
        return first in self._source_paths.sources or first in RESERVED or first.lower() in ("http:", "https:")

    def _checked(self, target: str, ref: SourceRef, options: str) -> str:
        if self.parse(target).ref != ref:
            raise BadOption(f"{options} does not end where the source begins", value=options)
        return target


def preset_faults(presets: Mapping[str, str], settings: NativeSettings, *, client_hints: bool = False) -> Iterator[str]:
    """A sentence for each preset that is wrong. Each preset is parsed as if a URL named it."""
    # A preset may scale more than once.
    unbounded = replace(settings, presets_only=False, snap_widths=())
    dialect = NativeDialect(unbounded, {"any"}, "any", client_hints=client_hints)
    for name, text in presets.items():
        faults = list(text_faults(text))
        if not faults:
            try:
                dialect.parse(f"{dialect.mount}{text}/any")
            except ImgserverError as error:
                faults = [error.detail]
        yield from (f"presets.{name}: {fault}" for fault in faults)


def quote_source(path: str) -> str:
    """A source path as it is written in a URL: UTF-8, percent-encoded, slashes unchanged. Raises BadSourcePath."""
    try:
        return quote(path, safe=UNQUOTED)
    except UnicodeEncodeError:
        raise BadSourcePath("a file name that is not UTF-8 cannot be in a URL") from None


def needs_escape(folder: str) -> bool:
    """Whether a first folder would be read as options or as a signature, and needs `_/` before it."""
    return folder == END_OF_OPTIONS or is_options(folder) or SIGNATURE.fullmatch(folder) is not None


def _steps(segments: list[Segment]) -> tuple[Step, ...]:
    steps: list[Step] = [] if segments and "ignore" in segments[0].angle else [Orient()]
    for segment in segments:
        steps += emit(segment)
    return tuple(steps)


def _check_scope(key: SigningKey | None, ref: SourceRef) -> None:
    if key is not None and not key.covers(ref.source):
        raise SignatureRefused(
            "the key of this signature is for other sources", reason="source", key=key.id, source=ref.source
        )


def _expiry(whole_url: Segment, target: Target) -> int | None:
    if whole_url.expiry is not None and not target.signed:
        raise bad_rule(whole_url.written["exp"], "only in signed URLs: anybody could write another time")
    return whole_url.expiry


def _hints(segments: list[Segment], whole_url: Segment, plan: Plan) -> tuple[Hint, ...]:
    """The client hints that can change the image: Save-Data only if `q_auto` is written and the format has a
    quality."""
    hints: list[Hint] = []
    if any(is_auto(segment, "w") for segment in segments):
        hints.append("width")
    if is_auto(whole_url, "dpr"):
        hints.append("pixel_ratio")
    output = plan.output
    lossy = output.format not in FORMATS or FORMATS[output.format].lossy
    if is_auto(whole_url, "q") and lossy and not output.lossless and plan.terminal.kind == "image":
        hints.append("save_data")
    return tuple(hints)


def _not_found_hint(target: Target) -> str | None:
    folder, slash, _ = target.source.partition("/")
    if target.escaped or not slash or "_" not in folder or len(folder) > 100:
        return None
    options = suggest_options(folder)
    return f"{folder} was read as a folder; did you mean {options}?" if options else None
