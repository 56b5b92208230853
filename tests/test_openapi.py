"""docs/openapi.yaml describes exactly the routes, statuses and responses of the server."""

import io
from fnmatch import fnmatch
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import pytest
from aiohttp import hdrs
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image

from imgserver import __version__, errors
from imgserver.errors import ImgserverError
from imgserver.settings.schema import AdminSettings, Settings
from imgserver.web import problem
from imgserver.web.app import make_app
from imgserver.web.purge_request import SELECTORS
from imgserver.web.uploads import results
from tests.multipart_forms import CONTENT_TYPE, form, picture
from tests.openapi import DOCUMENT, operations, resolved, schema
from tests.running_server import SAMPLES, Answer, ServerProcess, serving

KEY = "a key of sixteen characters"
ORIGIN = "https://example.com"

# The statuses of each operation that are not errors of the tree in errors.py.
PLAIN = {
    "getGallery": {200, 404},
    "headGallery": {200, 404},
    "getImage": {200, 206, 304, 416},
    "headImage": {200, 206, 304, 416},
    "getImageOptions": {204},
    "optimize": {200, 201, 417},
    "getUploadOptions": {204, 405},
    "getReady": {200, 503},
    "headReady": {200, 503},
    "getHealth": {200, 503},
    "headHealth": {200, 503},
    "getImageHealth": {200, 503},
    "headImageHealth": {200, 503},
    "getMetrics": {200, 404},
    "headMetrics": {200, 404},
}
# The errors of each operation; a class stands for all its subclasses.
POLICY = {errors.AddressDenied, errors.QuotaExceeded, errors.ServerFault}
AUTHENTICATION = {errors.Unauthorized, errors.Forbidden, errors.TooManyFailures}
RENDERED = {errors.UnsupportedImage, errors.Unprocessable, errors.Unavailable, errors.DeadlineExceeded}
GRAMMAR = {errors.BadRequest, errors.TargetTooLong, errors.NotInThisBuild}
IMAGE = POLICY | GRAMMAR | RENDERED | {errors.Forbidden, errors.NotFound, errors.Expired, errors.SourceFailed}
IMAGE |= {errors.PreconditionFailed}
UPLOADED = {errors.BodyTimeout, errors.BodyTooLarge, errors.Conflict}
FAULT = {errors.ServerFault}
RAISES: dict[str, set[type[ImgserverError]]] = {
    "getImage": IMAGE,
    "headImage": IMAGE,
    "getImageOptions": POLICY,
    "optimize": POLICY
    | AUTHENTICATION
    | GRAMMAR
    | RENDERED
    | {errors.BodyTimeout, errors.BodyTooLarge, errors.Conflict},
    "getUploadOptions": POLICY,
    "purge": POLICY | AUTHENTICATION | GRAMMAR | {errors.NotFound, errors.BodyTimeout},
    "sweep": POLICY | AUTHENTICATION,
    "getImageHealth": FAULT | AUTHENTICATION | {errors.AddressDenied},
    "headImageHealth": FAULT | AUTHENTICATION | {errors.AddressDenied},
    "getMetrics": FAULT | AUTHENTICATION,
    "headMetrics": FAULT | AUTHENTICATION,
    "getGallery": POLICY | {errors.Unavailable},
    "headGallery": POLICY | {errors.Unavailable},
}
# Only the HTTP parser raises them; no operation does.
PARSER_ERRORS = {errors.MalformedRequest, errors.HeaderTooLarge}


@pytest.fixture(scope="module")
def described() -> ServerProcess:
    with serving(workers_count=1, admin_key=KEY, uploads_allow_origin=ORIGIN) as running:
        yield running


def tree(kind: type[ImgserverError] = ImgserverError) -> set[type[ImgserverError]]:
    kinds = {one for one in kind.__subclasses__() if one.__module__ == errors.__name__}
    return kinds.union(*map(tree, kinds)) if kinds else set()


def test_the_description_is_valid():
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_the_version_is_this_version():
    assert DOCUMENT["info"]["version"] == __version__


def test_every_route_is_described_and_no_other():
    app = make_app(Settings(admin=AdminSettings(key=KEY)))
    routes = {resource.canonical for resource in app.router.resources()}

    assert {path.replace("{target}", "{tail}") for path in DOCUMENT["paths"]} == routes - {"/{tail}"}


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_every_method_is_described_and_no_other(described, path):
    answer = described.ask(path.replace("{target}", "cat.png"), "PROPFIND")

    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == {method for where, method, _ in operations() if where == path}


@pytest.mark.parametrize(
    ("path", "method", "operation"), list(operations()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_status_is_described_and_no_other(path, method, operation):
    name = operation["operationId"]
    given = chain.from_iterable({one, *tree(one)} for one in RAISES.get(name, FAULT))

    assert set(map(int, operation["responses"])) == PLAIN.get(name, {200}) | {one.status for one in given}


def test_every_error_belongs_to_an_operation():
    given = {kind for one in chain.from_iterable(RAISES.values()) for kind in (one, *tree(one))}

    assert given | PARSER_ERRORS == tree()


def test_every_member_of_a_problem_is_described():
    known = DOCUMENT["components"]["schemas"]["Problem"]["properties"]

    assert set(known) == {"type", "title", "status", "detail", "request_id"} | problem.PUBLIC_FIELDS


def test_every_header_of_a_result_is_described():
    (operation,) = [one for _, _, one in operations() if one["operationId"] == "optimize"]

    assert set(operation["responses"]["200"]["headers"]) >= set(results.FIELDS)


def check_response(operation: Any, answer: Answer) -> None:
    """Fails for a response that the operation does not describe."""
    response = resolved(operation["responses"][str(answer.status)])
    for name, header in response.get("headers", {}).items():
        if name in answer.headers and resolved(header)["schema"].get("type") == "integer":
            assert answer.headers[name].isdigit()
        elif name in answer.headers and resolved(header)["schema"].get("type") == "string":
            Draft202012Validator(schema(resolved(header)["schema"])).validate(answer.headers[name])
    if not answer.body:
        return
    media_type = answer.headers.get_content_type()
    (found,) = [one for kind, one in response["content"].items() if fnmatch(media_type, kind)]
    if media_type.endswith("json"):
        Draft202012Validator(schema(found["schema"])).validate(answer.json())


def operation_of(name: str) -> Any:
    (found,) = [one for _, _, one in operations() if one["operationId"] == name]
    return found


TARGETS = {name: one["value"] for name, one in DOCUMENT["components"]["parameters"]["Target"]["examples"].items()}


@pytest.mark.parametrize("name", TARGETS)
def test_every_example_of_a_target_is_an_image(described, name):
    answer = described.ask(
        f"/img/{TARGETS[name]}?v=3", headers={"Accept": "image/avif,image/webp,*/*", "Priority": "u=1"}
    )

    assert answer.status == 200
    check_response(operation_of("getImage"), answer)
    assert set(operation_of("getImage")["responses"]["200"]["headers"]) - {"Vary"} <= set(answer.headers)


@pytest.mark.parametrize(
    ("target", "fields", "status"),
    [
        ("w_50/cat.png", {"Range": "bytes=0-9"}, 206),
        ("w_50/cat.png", {"Range": "bytes=99999999-"}, 416),
        ("w_50/cat.png", {"If-None-Match": "*"}, 304),
        ("w_400,c_fil,h_9/cat.png", {}, 400),
        ("nosuch.png", {}, 404),
        ("w_50/" + "a" * 8000, {}, 414),
    ],
)
def test_the_response_to_an_image_request_is_as_described(described, target, fields, status):
    answer = described.ask(f"/img/{target}", headers=fields)

    assert answer.status == status
    check_response(operation_of("getImage"), answer)


def test_the_example_of_a_problem_is_the_real_response(described):
    example = DOCUMENT["components"]["responses"]["BadTarget"]["content"]["application/problem+json"]["examples"]
    Draft202012Validator(schema(DOCUMENT["components"]["schemas"]["Problem"])).validate(example["option"]["value"])
    answer = described.ask("/img/w_400,c_fil,h_9/cat.png").json()

    assert {name: answer[name] for name in example["option"]["value"]} == example["option"]["value"]


@pytest.mark.parametrize(
    ("path", "method", "name"),
    [(path, method, one["operationId"]) for path, method, one in operations() if method in ("GET", "HEAD")][2:],
)
def test_a_page_is_as_described(described, path, method, name):
    answer = described.ask(path, method)

    assert answer.status == 200
    check_response(operation_of(name), answer)
    assert answer.headers.get_content_type() in operation_of(name)["responses"]["200"]["content"]


PURGES = operation_of("purge")["requestBody"]["content"]["application/json"]["examples"]


@pytest.mark.parametrize("name", PURGES)
def test_every_example_of_a_purge_works(described, name):
    answer = described.post("/api/admin/purge", PURGES[name]["value"], key=KEY)

    assert answer.status == 200
    check_response(operation_of("purge"), answer)


def test_a_purge_request_has_no_other_selectors():
    assert tuple(DOCUMENT["components"]["schemas"]["PurgeRequest"]["properties"]) == SELECTORS


@pytest.mark.parametrize(("path", "name"), [("/api/admin/purge", "purge"), ("/api/admin/sweep", "sweep")])
def test_the_admin_routes_are_as_described(described, path, name):
    for key in (None, KEY):
        answer = described.post(path, {"source": "cat.png"}, key=key)
        assert answer.status == (401 if key is None else 200)
        check_response(operation_of(name), answer)


@pytest.mark.parametrize(
    ("query", "fields", "pictures", "status"),
    [
        ("", {}, ["dogs.jpg"], 200),
        ("?options=w_200,f_webp", {}, ["cat.png"], 200),
        ("", {"Accept": "application/json"}, ["cat.png"], 200),
        ("?data=base64", {}, ["cat.png"], 200),
        ("", {}, ["cat.png", "dogs.jpg"], 200),
        ("?f=info", {}, ["cat.png"], 200),
        ("?wd=3", {}, ["cat.png"], 400),
        ("?async=1", {}, ["cat.png"], 501),
        ("?options=" + "w_1/" * 2000, {}, ["cat.png"], 414),
        ("", {}, [], 400),
        ("", {"Authorization": "Bearer of nothing"}, [], 401),
        ("", {"Content-Type": "text/plain"}, [], 415),
        ("", {"Content-Length": str(10**9)}, [], 413),
        ("", {"Expect": "something else"}, ["cat.png"], 417),
    ],
)
def test_the_response_to_an_upload_is_as_described(described, query, fields, pictures, status):
    body = form(*(picture((SAMPLES / name).read_bytes(), PurePosixPath(name).name) for name in pictures))
    known = {"Authorization": f"Bearer {KEY}", "Content-Type": CONTENT_TYPE, "Content-Length": str(len(body))}
    answer = described.ask(f"/api/image/optimize{query}", "POST", {**known, **fields}, body)

    assert answer.status == status
    check_response(operation_of("optimize"), answer)
    if answer.headers.get_content_maintype() == "image":
        Image.open(io.BytesIO(answer.body)).verify()


@pytest.mark.parametrize(
    ("path", "name"), [("/img/cat.png", "getImageOptions"), ("/api/image/optimize", "getUploadOptions")]
)
def test_a_preflight_is_as_described(described, path, name):
    answer = described.ask(path, "OPTIONS", {hdrs.ORIGIN: ORIGIN, hdrs.ACCESS_CONTROL_REQUEST_METHOD: "GET"})
    response = operation_of(name)["responses"][str(answer.status)]

    assert answer.status == 204
    assert answer.headers["Allow"] == response["headers"]["Allow"]["schema"]["const"]
