"""The native dialect: target in, request out."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import quote

from imgserver.dialects.dialect import DialectConfig
from imgserver.dialects.native.emit import emit, emit_output, fold, gather, pixel_ratio
from imgserver.dialects.native.lexer import END_OF_OPTIONS, SIGNATURE, Target, cut, is_options, unseal
from imgserver.dialects.native.messages import bad_rule
from imgserver.dialects.native.presets import Presets, faults_of
from imgserver.dialects.native.segment import Wish, is_auto, meant, read
from imgserver.dialects.native.settings import NativeSettings
from imgserver.dialects.native.source_path import RESERVED, Addresses, spell_remote
from imgserver.dialects.native.validation import check, check_hinted_width
from imgserver.errors import BadOption, BadSourcePath, ImgserverError, SignatureRefused
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.formats import FORMATS
from imgserver.plan.plan import Hint, ImageRequest, Orient, Plan, SourceRef, Step
from imgserver.plan.snapping import SizeSnapping
from imgserver.security.remote_url import REMOTE
from imgserver.security.signing import NO_KEYS, Key, Keyring

# What a path segment may hold as it is (RFC 3986 3.3), but for the comma, which parts options.
UNQUOTED = "/-._~!$'()*+;=:@&"


class NativeDialect:
    """`/img/w_800,q_80/photo.jpg`; the grammar is told in docs/urls.md. Satisfies `dialects.Dialect`."""

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
        """Raises ValueError for source names the grammar does not allow. `mount` begins and ends with a slash.

        `presets` are those in which `preset_faults` finds nothing.
        `remote`: a source serves addresses of other hosts.
        """
        self.settings = settings
        self.client_hints = client_hints
        self._mount = mount
        self._addresses = Addresses(frozenset(sources), default_source, remote)
        self._presets = Presets(settings, presets or {})
        self._keyring = keyring
        self._snapping = SizeSnapping(settings.snap_widths)

    @classmethod
    def of(cls, config: DialectConfig) -> "NativeDialect":
        """Raises ValueError for source names the grammar does not allow."""
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
        """Their names."""
        return tuple(self._presets.texts)

    @property
    def mount(self) -> str:
        return self._mount

    def adopt(self, *, presets: Mapping[str, str], keyring: Keyring) -> None:
        """From the next call on. What was parsed before may not be what these allow."""
        self._presets = Presets(self.settings, presets)
        self._keyring = keyring

    def parse(self, raw_target: str, hints: Hints = NO_HINTS) -> ImageRequest:
        envelope = unseal(raw_target, self.settings, mount=self.mount)
        key = self._keyring.check(envelope.mac, envelope.rest)
        target = cut(envelope, self.settings)
        known = hints if self.client_hints else None
        wishes = [read(segment, self.settings, known) for segment in self._presets.expand(target.segments)]
        for index, wish in enumerate(wishes):
            check(wish, self.settings, first=index == 0)
        whole_url = gather(wishes)
        check_hinted_width(wishes, whole_url)
        plan = self._plan(wishes, whole_url)
        expires = _expiry(whole_url, target)
        ref = self._addresses.read(target)
        _check_scope(key, ref)
        return ImageRequest(
            ref=ref,
            plan=plan,
            attachment=whole_url.flags.get("attachment"),
            not_found_hint=_not_found_hint(target),
            signed=target.signed,
            expires=expires,
            hints=_hints(wishes, whole_url, plan) if self.client_hints else (),
        )

    def _plan(self, wishes: list[Wish], whole_url: Wish) -> Plan:
        output, terminal = emit_output(whole_url)
        steps = self._limited(_steps(wishes))
        ratio = self._snapping.snap_pixel_ratio(pixel_ratio(whole_url))
        return self._snapping.snap(Plan(steps if ratio == 1 else fold(steps, ratio), output, terminal))

    def ref(self, path: str) -> SourceRef:
        """What a path as people write it means, unchecked: `shop/mug.jpg` is of the source shop, if there is one."""
        return self._addresses.named(path)

    def build(self, ref: SourceRef, options: str = "") -> str:
        """The target that asks for `ref` with these options (segments joined by `/`); raises what `parse` raises.

        It is signed where the server answers nothing else.
        """
        if self._keyring.required:
            return self.build_signed(ref, options)
        return self._checked(self.mount + self._rest(ref, options), ref, options)

    def build_signed(self, ref: SourceRef, options: str = "") -> str:
        """The same with a signature by the first key that opens the source; SignatureRefused when none does."""
        rest = self._rest(ref, options)
        mac = self._keyring.sign(rest, source=ref.source)
        return self._checked(f"{self.mount}s--{mac}--/{rest}", ref, options)

    def _rest(self, ref: SourceRef, options: str) -> str:
        path = spell_remote(ref.path) if ref.source == REMOTE else self._spell_local(ref)
        return (options.strip("/") + "/" if options.strip("/") else "") + path

    def _checked(self, target: str, ref: SourceRef, options: str) -> str:
        if self.parse(target).ref != ref:
            raise BadOption(f"{options} does not end where the source begins", value=options)
        return target

    def _spell_local(self, ref: SourceRef) -> str:
        path = quote_source(ref.path)
        first = path.partition("/")[0]
        if ref.source != self._addresses.default or self._is_taken(first):
            return f"{ref.source}/{path}"
        return f"{END_OF_OPTIONS}/{path}" if needs_escape(first) and "/" in path else path

    def is_spellable(self, ref: SourceRef) -> bool:
        """Whether a URL can ask for it: a file's name may hold what a target may not, such as a backslash."""
        try:
            self.build(ref)
        except ImgserverError:
            return False
        return True

    def _is_taken(self, first: str) -> bool:
        """Whether a first folder of this name would be read as a source, or as the mark of an address."""
        return first in self._addresses.sources or first in RESERVED or first.lower() in ("http:", "https:")

    def _limited(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        if len(steps) > self.settings.max_steps:
            raise BadOption(f"the options make {len(steps)} steps, more than {self.settings.max_steps}")
        return steps


def preset_faults(presets: Mapping[str, str], settings: NativeSettings, *, client_hints: bool = False) -> Iterator[str]:
    """A sentence per preset that is not what it should be: each is read as if a URL named it."""
    dialect = NativeDialect(replace(settings, presets_only=False), {"any"}, "any", client_hints=client_hints)
    for name, text in presets.items():
        faults = list(faults_of(text))
        if not faults:
            try:
                dialect.parse(f"{dialect.mount}{text}/any")
            except ImgserverError as error:
                faults = [error.detail]
        yield from (f"presets.{name}: {fault}" for fault in faults)


def quote_source(path: str) -> str:
    """A source path as it stands in a URL: UTF-8, percent-encoded, slashes kept. Raises BadSourcePath."""
    try:
        return quote(path, safe=UNQUOTED)
    except UnicodeEncodeError:
        raise BadSourcePath("a file name that is not UTF-8 cannot stand in a URL") from None


def needs_escape(folder: str) -> bool:
    """Whether a first folder would be read as options or as a signature, and so wants `_/` before it."""
    return folder == END_OF_OPTIONS or is_options(folder) or SIGNATURE.fullmatch(folder) is not None


def _steps(wishes: list[Wish]) -> tuple[Step, ...]:
    upright: tuple[Step, ...] = () if wishes and "ignore" in wishes[0].angle else (Orient(),)
    return upright + tuple(step for wish in wishes for step in emit(wish))


def _check_scope(key: Key | None, ref: SourceRef) -> None:
    if key is not None and not key.opens(ref.source):
        raise SignatureRefused(
            "the key of this signature is for other sources", reason="source", key=key.id, source=ref.source
        )


def _expiry(whole_url: Wish, target: Target) -> int | None:
    if whole_url.expiry is not None and not target.signed:
        raise bad_rule(whole_url.written["exp"], "only in signed URLs: anybody could write another time")
    return whole_url.expiry


def _hints(wishes: list[Wish], whole_url: Wish, plan: Plan) -> tuple[Hint, ...]:
    """Those that can change the picture: Save-Data only where `q_auto` is written and the format has a quality."""
    asked: list[Hint] = []
    if any(is_auto(wish, "w") for wish in wishes):
        asked.append("width")
    if is_auto(whole_url, "dpr"):
        asked.append("pixel_ratio")
    output = plan.output
    lossy = output.format not in FORMATS or FORMATS[output.format].lossy
    if is_auto(whole_url, "q") and lossy and not output.lossless and plan.terminal.kind == "image":
        asked.append("save_data")
    return tuple(asked)


def _not_found_hint(target: Target) -> str | None:
    folder, slash, _ = target.source.partition("/")
    if target.escaped or not slash or "_" not in folder or len(folder) > 100:
        return None
    options = meant(folder)
    return f"{folder} was read as a folder; did you mean {options}?" if options else None
