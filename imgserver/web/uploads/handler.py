"""POST /api/image/optimize: pictures in, smaller pictures out; nothing of them is kept unless asked for.

The order is the point. Key, parameters and what the header declares are judged first, then a place is taken, and only
then is a client that waits for it told to send its body. The body goes into files without a name; a worker reads them
as it reads originals, with the same limits, deadlines and quarantine.
"""

from dataclasses import replace

from aiohttp import hdrs, web

from imgserver.engine.job import RenderResult
from imgserver.errors import BadRequest, BodyTooLarge, ImgserverError
from imgserver.rendering.renderer import Renderer
from imgserver.rendering.upload_admission import Access, Uploads, UploadSettings
from imgserver.settings.schema import Settings
from imgserver.web import lifecycle
from imgserver.web.access_log import FACTS
from imgserver.web.auth import Authenticator
from imgserver.web.local_client import is_local_client
from imgserver.web.middleware import Handler
from imgserver.web.reload_settings import SettingsReload
from imgserver.web.routes import Routes
from imgserver.web.uploads import results
from imgserver.web.uploads.accounting import UploadAccounting
from imgserver.web.uploads.body import Body
from imgserver.web.uploads.multipart import BodyFormat, Picture, ReceivedUpload
from imgserver.web.uploads.parameters import ParameterParser, UploadOptions, parse_query
from imgserver.web.uploads.results import UploadResult
from imgserver.web.uploads.store import UploadStore
from imgserver.web.uploads.temp_files import TempFiles

PATH = "/api/image/optimize"
METHODS = (hdrs.METH_POST, hdrs.METH_OPTIONS)
SCOPE = "upload"
ROUTE = "optimize"


def setup(
    app: web.Application,
    routes: Routes,
    settings: Settings,
    renderer: Renderer,
    *,
    authenticator: Authenticator,
    uploads: Uploads,
    accounting: UploadAccounting,
    store: UploadStore | None,
    settings_reload: SettingsReload,
) -> None:
    """Raises ServerFault for a folder that is none."""
    own, is_local = settings.uploads, settings.server.is_local
    temp_files, grammar = TempFiles(own.temp_path, uploads), ParameterParser(settings.native, settings.presets)
    settings_reload.follow(lambda new: grammar.adopt(new.presets))
    handler = UploadHandler(
        renderer,
        grammar,
        access=own.access,
        authenticator=authenticator,
        uploads=uploads,
        temp_files=temp_files,
        accounting=accounting,
        store=store,
        local=is_local,
    )
    bounded = routes.around(handler, ROUTE, METHODS if own.allow_origin else (hdrs.METH_POST,))
    routes.put(PATH, allowing(own.allow_origin, bounded) if own.allow_origin else bounded)
    if own.access == "open" and not is_local:
        authenticator.audit("config_weak", reason="uploads_open")
    app.cleanup_ctx.append(lifecycle.of_temp_files(temp_files))


class UploadHandler:
    """`local`: whether the server listens to this machine alone, which then needs no key while none is configured."""

    def __init__(
        self,
        rendering: Renderer,
        grammar: ParameterParser,
        *,
        access: Access,
        authenticator: Authenticator,
        uploads: Uploads,
        temp_files: TempFiles,
        accounting: UploadAccounting,
        store: UploadStore | None,
        local: bool,
    ) -> None:
        self._rendering = rendering
        self._grammar = grammar
        self._access = access
        self._authenticator = authenticator
        self._uploads = uploads
        self._temp_files = temp_files
        self._accounting = accounting
        self._store = store
        self._local = local

    async def __call__(self, request: web.Request) -> web.Response:
        if request.method == hdrs.METH_OPTIONS:
            return _preflight()
        with self._accounting.counted(request):
            key = self._admit(request)
            response, found = await self._answer(request, key, self._uploads.bounded)
        request[FACTS] = self._accounting.note(request, found, key=key)
        return response

    async def _answer(
        self, request: web.Request, key: str, settings: UploadSettings
    ) -> tuple[web.Response, list[UploadResult]]:
        pairs = parse_query(request.rel_url.raw_query_string)
        wants = self._grammar.read(pairs)
        self._check_store(wants, request, key)
        kind, body = BodyFormat.of(request), Body(request, settings)
        body.check()
        async with self._uploads.place() as waited_seconds, ReceivedUpload(self._temp_files, settings) as intake:
            self._accounting.waited(waited_seconds)
            await body.invite()
            await intake.take(kind, body)
            if intake.fields:
                wants = self._grammar.read([*pairs, *intake.fields])
                self._check_store(wants, request, key)
            several = len(intake.pictures) > 1
            if several and wants.store is not None:
                raise BadRequest("store: one name for several pictures", argument="store")
            as_json = several or wants.data or _wants_json(request)
            found = await self._optimized(
                intake.pictures,
                wants,
                request,
                bodies=wants.data or not as_json,
                data_bytes=settings.max_body_bytes,
            )
        if not several and isinstance(found[0].result, ImgserverError):
            raise found[0].result
        if as_json:
            return await results.listing(found, several=several, data=wants.data), found
        (only,) = found
        assert isinstance(only.result, RenderResult)
        return results.picture(only, only.result), found

    def _admit(self, request: web.Request) -> str:
        """The key's id, "" where none is needed. Raises what `Authenticator.require` raises."""
        match self._access:
            case "open":
                return ""
            case "auto" if self._local and not self._authenticator.keys.grants(SCOPE) and is_local_client(request):
                return ""
        return self._authenticator.require(request, SCOPE, route=ROUTE)

    def _check_store(self, wants: UploadOptions, request: web.Request, key: str) -> None:
        """Who may have pictures made for nothing may not write for nothing."""
        if wants.store is None:
            return
        if self._store is None:
            raise BadRequest("store: this server keeps no uploads (uploads.store)", argument="store")
        if not key:
            self._authenticator.require(request, SCOPE, route=ROUTE)
        self._store.url(wants.store)

    async def _optimized(
        self, pictures: list[Picture], wants: UploadOptions, request: web.Request, *, bodies: bool, data_bytes: int
    ) -> list[UploadResult]:
        """One after the other, each with its own result or error. Without `bodies` only what is told of them stays;
        raises BodyTooLarge where more than `data_bytes` of them were to go into JSON."""
        found: list[UploadResult] = []
        for picture in pictures:
            finding = await self._one(picture, wants, request)
            if isinstance(finding.result, RenderResult) and not bodies:
                finding = replace(finding, result=replace(finding.result, body=b""))
            found.append(finding)
            if wants.data and sum(one.result_bytes for one in found) > data_bytes:
                raise BodyTooLarge("data: the results are too large for one answer", limit="body")
        return found

    async def _one(self, picture: Picture, wants: UploadOptions, request: web.Request) -> UploadResult:
        try:
            original = await picture.file.original()
            result = await self._rendering.optimize(original, wants.plan(request.headers.get(hdrs.ACCEPT)))
            url = await self._stored(result, wants)
        except ImgserverError as error:
            return UploadResult(picture.name, picture.file.bytes, error)
        return UploadResult(picture.name, picture.file.bytes, result, len(result.body), url)

    async def _stored(self, result: RenderResult, wants: UploadOptions) -> str | None:
        if wants.store is None or self._store is None:
            return None
        return await self._store.keep(wants.store, result.body, replace=wants.replace)


def _wants_json(request: web.Request) -> bool:
    """Whoever names JSON and no picture. `*/*` names neither."""
    accept = request.headers.get(hdrs.ACCEPT, "").lower()
    return "application/json" in accept and "image/" not in accept


def allowing(origin: str, handler: Handler) -> Handler:
    """The handler for pages of another origin, errors included (Fetch, CORS protocol)."""

    async def allowed(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = ", ".join((*results.FIELDS, "Location"))
        return response

    return allowed


def _preflight() -> web.Response:
    headers = {
        "Allow": ", ".join(METHODS),
        "Access-Control-Allow-Methods": hdrs.METH_POST,
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "86400",
    }
    return web.Response(status=204, headers=headers)
