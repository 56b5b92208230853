"""POST /api/image/optimize: images in, smaller images out. Nothing is kept unless the client asks to store the result.

The order matters. The key, the parameters and the headers are checked first; then the upload waits for a place; only
then is the client told to send its body (100 Continue). The body is written to unnamed temporary files. A worker reads
them like originals, with the same limits, deadlines and quarantine.
"""

from collections.abc import Sequence
from dataclasses import replace

from aiohttp import hdrs, web

from imgserver.engine.job import RenderResult
from imgserver.errors import BadRequest, BodyTooLarge, BrokenImage, ImgserverError
from imgserver.headers.field_lines import combined
from imgserver.plan.plan import Plan
from imgserver.plan.rendition import Original
from imgserver.rendering.renderer import Renderer
from imgserver.rendering.upload_admission import UploadAdmission
from imgserver.security.networks import client_of
from imgserver.settings.schema import Settings
from imgserver.web import lifecycle
from imgserver.web.access_log import EVENT_FIELDS
from imgserver.web.auth import Authenticator
from imgserver.web.reload_settings import SettingsReload
from imgserver.web.routes import Routes
from imgserver.web.uploads.access import METHODS, ROUTE, UploadAccess, allow_origin, preflight
from imgserver.web.uploads.accounting import UploadAccounting
from imgserver.web.uploads.body import UploadBody
from imgserver.web.uploads.multipart import BodyFormat, ReceivedUpload, UploadedImage
from imgserver.web.uploads.parameters import Pairs, ParameterParser, UploadOptions, parse_query
from imgserver.web.uploads.results import ResponseFormat, UploadResult, make_response
from imgserver.web.uploads.store import UploadStore
from imgserver.web.uploads.temp_files import TempFiles

PATH = "/api/image/optimize"


def setup(
    app: web.Application,
    routes: Routes,
    settings: Settings,
    renderer: Renderer,
    *,
    authenticator: Authenticator,
    admission: UploadAdmission,
    accounting: UploadAccounting,
    store: UploadStore | None,
    settings_reload: SettingsReload,
) -> None:
    """Raises ServerFault for a folder of temporary files that does not exist."""
    own, is_local = settings.uploads, settings.server.is_local
    parser, temp_files = ParameterParser(settings.native, settings.presets), TempFiles(own.temp_path, admission)
    settings_reload.follow(lambda new: parser.adopt(new.presets))
    app.cleanup_ctx.append(lifecycle.temp_files_context(temp_files))
    handler = UploadHandler(
        parser=parser,
        access=UploadAccess(own.access, authenticator, is_local=is_local),
        admission=admission,
        temp_files=temp_files,
        renderer=renderer,
        store=store,
        accounting=accounting,
    )
    bounded = routes.wrap(handler, ROUTE, METHODS if own.allow_origin else (hdrs.METH_POST,))
    routes.add_wrapped(PATH, allow_origin(own.allow_origin, bounded) if own.allow_origin else bounded)
    if own.access == "open" and not is_local:
        authenticator.audit("config_weak", reason="uploads_open")


class UploadHandler:
    def __init__(
        self,
        *,
        parser: ParameterParser,
        access: UploadAccess,
        admission: UploadAdmission,
        temp_files: TempFiles,
        renderer: Renderer,
        store: UploadStore | None,
        accounting: UploadAccounting,
    ) -> None:
        self._parser = parser
        self._access = access
        self._admission = admission
        self._temp_files = temp_files
        self._renderer = renderer
        self._store = store
        self._accounting = accounting

    async def __call__(self, request: web.Request) -> web.Response:
        if request.method == hdrs.METH_OPTIONS:
            return preflight()
        with self._accounting.request(request):
            key = self._access.authorize(request)
            response, results = await self._respond(request, key)
        request[EVENT_FIELDS] = self._accounting.record(request, results, key=key)
        return response

    async def _respond(self, request: web.Request, key: str) -> tuple[web.Response, Sequence[UploadResult]]:
        # The limits in force when the upload begins: a reload of the policy may change them.
        settings, accept = self._admission.effective_settings, combined(request.headers, hdrs.ACCEPT) or ""
        # 1. Refuse what can be refused without the body.
        query = parse_query(request.rel_url.raw_query_string)
        options = self._parse(query, request, key)
        body_format, body = BodyFormat.of(request), UploadBody(request, settings)
        body.check_headers()
        # 2. Wait for a place, then receive the body. Its fields may contain further parameters.
        async with self._admission.place() as place, ReceivedUpload(self._temp_files, settings) as upload:
            self._accounting.observe_wait(place.waited_seconds)
            await body.begin(place)
            await upload.receive(body_format, body)
            if upload.fields:
                options = self._parse([*query, *upload.fields], request, key)
            if options.store is not None and len(upload.images) > 1:
                raise BadRequest("store: one path cannot hold several images", argument="store")
            # 3. Wait for the turn, then optimize and store the images.
            response_format = ResponseFormat.choose(images=len(upload.images), with_data=options.data, accept=accept)
            async with self._admission.turn(place):
                results = await self._optimize_all(
                    upload.images,
                    options,
                    accept,
                    response_format,
                    client=f"key {key}" if key else client_of(request.remote),
                    max_data_bytes=settings.max_body_bytes,
                )
        # 4. Respond, without the turn and the files.
        return await make_response(results, response_format), results

    def _parse(self, parameters: Pairs, request: web.Request, key: str) -> UploadOptions:
        """Raises what `ParameterParser.parse` raises, and refuses a result that cannot or may not be stored."""
        options = self._parser.parse(parameters)
        if options.store is None:
            return options
        if self._store is None:
            raise BadRequest("store: this server stores no uploads (uploads.store)", argument="store")
        # Storing needs a key even where every client may optimize images.
        if not key:
            self._access.require_key(request)
        self._store.url(options.store)
        return options

    async def _optimize_all(
        self,
        images: Sequence[UploadedImage],
        options: UploadOptions,
        accept: str,
        response_format: ResponseFormat,
        *,
        client: str,
        max_data_bytes: int,
    ) -> list[UploadResult]:
        """One image after the other, each with a result or an error. Drops the bodies that the response does not need.
        Raises BodyTooLarge when JSON would contain more than `max_data_bytes` of results."""
        results: list[UploadResult] = []
        for image in images:
            upload = await self._optimize(image, options, accept, client=client)
            if isinstance(upload.result, RenderResult) and response_format is ResponseFormat.JSON:
                upload = replace(upload, result=replace(upload.result, body=b""))
            results.append(upload)
            if options.data and sum(one.result_bytes for one in results) > max_data_bytes:
                raise BodyTooLarge("data: the results are too large for one response", limit="body")
        return results

    async def _optimize(
        self, image: UploadedImage, options: UploadOptions, accept: str, *, client: str
    ) -> UploadResult:
        try:
            original = await image.file.original()
            result = await self._render(image, original, options.plan(accept), client=client)
            url = await self._store_result(result, options)
        except ImgserverError as error:
            return UploadResult(image.name, image.file.bytes, error)
        return UploadResult(image.name, image.file.bytes, result, len(result.body), url)

    async def _render(self, image: UploadedImage, original: Original, plan: Plan, *, client: str) -> RenderResult:
        try:
            return await self._renderer.optimize(original, plan, client=client)
        except BrokenImage:
            await image.file.check_readable()
            raise

    async def _store_result(self, result: RenderResult, options: UploadOptions) -> str | None:
        """The URL of the stored result; None when the client does not store it."""
        if options.store is None or self._store is None:
            return None
        return await self._store.write(options.store, result.body, replace=options.replace)
