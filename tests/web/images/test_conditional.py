"""Conditional requests and fields on several lines, on the fast path and on the framework's way."""

from email.utils import formatdate, parsedate_to_datetime

import pytest

from tests.running_server import Answer, ServerProcess, serving

PICTURE = "/img/w_60/cat.png"
NEGOTIATED = "/img/w_60,f_auto/cat.png"


@pytest.fixture(scope="module")
def server():
    with serving(workers_count=1, http_client_hints="true", http_surrogate_key="true") as running:
        yield running


@pytest.fixture(scope="module")
def warm(server) -> Answer:
    server.ask(PICTURE)
    return server.ask(PICTURE)


def day_of(answer: Answer, days: int) -> str:
    """A date that many days after the modification of the answer."""
    return formatdate(parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp() + days * 86_400, usegmt=True)


# Accept

AVIF, WEBP = ("Accept", "image/avif"), ("Accept", "image/webp")
ANY, NO_AVIF = ("Accept", "*/*;q=0.8"), ("Accept", "image/avif;q=0")


@pytest.mark.parametrize(
    ("lines", "media_type"),
    [
        ([ANY, AVIF], "image/avif"),
        ([ANY, WEBP], "image/webp"),
        ([WEBP, AVIF], "image/avif"),
        ([AVIF, ANY], "image/avif"),
        ([WEBP, NO_AVIF, ANY], "image/webp"),
        ([ANY, ANY], "image/png"),
        ([("Accept", ""), WEBP], "image/webp"),
        ([("accept", "text/html"), ("ACCEPT", "image/webp")], "image/webp"),
        ([("Accept", "image/*," * 100), WEBP], "image/webp"),
    ],
)
@pytest.mark.parametrize("repeated", [False, True])
def test_several_lines_of_accept_are_one_list(server, lines, media_type, repeated):
    answer = server.ask(NEGOTIATED, headers=lines)

    assert (answer.status, answer.headers["Content-Type"], answer.headers["Vary"]) == (200, media_type, "Accept")
    assert not repeated or "hit" in answer.cache_status


@pytest.mark.parametrize("lines", [[("Save-Data", "on"), ("Save-Data", "on")], [("Save-Data", "off")]])
def test_a_repeated_client_hint_counts_as_malformed(server, lines):
    plain = server.ask("/img/w_60,q_auto/cat.png")

    assert server.ask("/img/w_60,q_auto/cat.png", headers=lines).headers["ETag"] == plain.headers["ETag"]


# 304


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_matching_tag_on_any_line_of_if_none_match_is_304(server, warm, method, position):
    tags = ['"another"', 'W/"a third"']
    tags.insert(position, warm.headers["ETag"])
    answer = server.ask(PICTURE, method, [("If-None-Match", tag) for tag in tags])

    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == warm.headers["ETag"]
    assert answer.headers["Surrogate-Key"] == warm.headers["Surrogate-Key"]


def test_if_none_match_takes_precedence_over_if_modified_since(server, warm):
    newer = ("If-Modified-Since", day_of(warm, 1))

    assert server.ask(PICTURE, headers=[("If-None-Match", '"a"'), ("If-None-Match", '"b"'), newer]).status == 200
    assert server.ask(PICTURE, headers=[newer]).status == 304
    assert server.ask(PICTURE, headers=[newer, newer]).status == 200


# 412


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (['"another"'], 412),
        (["W/{etag}"], 412),
        (["not a tag"], 412),
        ([""], 412),
        (['"another"', '"a third"'], 412),
        (["{etag}"], 200),
        (['"another"', "{etag}"], 200),
        (["{etag}", '"another"'], 200),
        (['"another", {etag}'], 200),
        (["*"], 200),
    ],
)
def test_if_match_compares_strongly_with_all_its_lines(server, warm, method, lines, status):
    etag = warm.headers["ETag"]
    answer = server.ask(PICTURE, method, [("If-Match", line.format(etag=etag)) for line in lines])

    assert answer.status == status
    if status == 412:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Imgserver-Error"] == "precondition-failed"
        assert method == "HEAD" or answer.json()["status"] == 412


def test_a_picture_that_changed_since_the_date_is_412(server, warm):
    def status(*lines: tuple[str, str]) -> int:
        return server.ask(PICTURE, headers=lines).status

    before, after = day_of(warm, -1), day_of(warm, 1)
    assert status(("If-Unmodified-Since", before)) == 412
    assert status(("If-Unmodified-Since", warm.headers["Last-Modified"])) == 200
    assert status(("If-Unmodified-Since", after)) == 200
    assert status(("If-Unmodified-Since", "yesterday")) == 200
    assert status(("If-Match", warm.headers["ETag"]), ("If-Unmodified-Since", before)) == 200
    assert status(("If-Match", '"another"'), ("If-Unmodified-Since", after)) == 412


def test_the_conditions_are_evaluated_in_their_order(server, warm):
    etag, other = warm.headers["ETag"], '"another"'

    def status(*lines: tuple[str, str]) -> int:
        return server.ask(PICTURE, headers=lines).status

    assert status(("If-Match", other), ("If-None-Match", etag)) == 412
    assert status(("If-Match", etag), ("If-None-Match", etag)) == 304
    assert status(("If-Match", "*"), ("If-None-Match", "*")) == 304
    assert status(("If-Match", other), ("Range", "bytes=0-9")) == 412
    assert status(("If-Match", etag), ("Range", "bytes=0-9")) == 206
    assert status(("If-None-Match", etag), ("Range", "bytes=0-9")) == 304
    assert status(("If-Unmodified-Since", day_of(warm, 1)), ("If-Modified-Since", day_of(warm, 1))) == 304
    assert status(("If-Match", other), ("Range", "bytes=9999999-")) == 412


def test_a_precondition_is_ignored_where_the_response_is_an_error_anyway(server):
    assert server.ask("/img/w_60/absent.png", headers={"If-Match": '"a"'}).status == 404
    assert server.ask("/img/w_60/absent.png", headers={"If-Match": "*"}).status == 404
    assert server.ask("/img/w_x/cat.png", headers={"If-Match": '"a"'}).status == 400
    assert server.ask(PICTURE, "OPTIONS", {"If-Match": '"a"'}).status == 204


def test_a_failed_precondition_of_a_new_rendition_fills_the_cache_and_varies(server: ServerProcess):
    first = server.ask("/img/w_61,f_auto/cat.png", headers={"If-Match": '"a"'})
    second = server.ask("/img/w_61,f_auto/cat.png")

    assert (first.status, first.headers["Vary"]) == (412, "Accept")
    assert (second.status, second.cache_status) == (200, "imgserver; hit")


# Ranges


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([("Range", "bytes=0-9"), ("If-Range", "{etag}")], 206),
        ([("Range", "bytes=0-9"), ("If-Range", "W/{etag}")], 200),
        ([("Range", "bytes=0-9"), ("If-Range", '"another"')], 200),
        ([("Range", "bytes=0-9"), ("If-Range", "{etag}"), ("If-Range", '"another"')], 200),
        ([("Range", "bytes=0-9"), ("Range", "bytes=20-29")], 200),
        ([("If-Range", '"another"')], 200),
    ],
)
def test_a_range_is_served_only_if_it_and_its_condition_are_single(server, warm, lines, status):
    lines = [(name, value.format(etag=warm.headers["ETag"])) for name, value in lines]

    assert server.ask(PICTURE, headers=lines).status == status
    assert server.ask(PICTURE, "HEAD", lines).status == 200


# Uploads


def test_a_second_content_encoding_is_read_too(server):
    lines = [("Content-Length", "3"), ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]

    assert server.ask("/api/image/optimize", "POST", lines, b"abc").status == 415
