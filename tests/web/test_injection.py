"""Line breaks in everything that may reach a header or a log line: every response is complete and well formed."""

import re
from collections.abc import Iterator

import pytest

from imgserver.dialects.native.options import OPTIONS
from tests.running_server import ServerProcess, serving

BREAK = "%0d%0aX-Evil:%201"
BREAKS = ("%0d%0a", "%0a", "%0d", "%E2%80%A8", "%C2%85", "%0b", "%00", "%1b%5b31m")
# The values are valid up to the line break, so that a parser that stops there would accept them.
BEFORE = {
    "fl": "attachment:a",
    "f": "png",
    "q": "80",
    "c": "fill",
    "g": "west",
    "e": "sharpen",
    "t": "card",
    "b": "red",
}


def ask(server: ServerProcess, target: str, *fields: str) -> tuple[int, dict[str, str], bytes]:
    """Sends raw bytes, so that no HTTP client hides a broken response. Raises if the response is incomplete."""
    lines = "".join(f"{field}\r\n" for field in (f"GET {target} HTTP/1.1", "Host: a", "Connection: close", *fields))
    head, blank, body = server.send(lines.encode("latin1") + b"\r\n").partition(b"\r\n\r\n")
    names = dict(line.split(": ", 1) for line in head.decode("latin1").split("\r\n")[1:])
    assert blank
    assert len(body) == int(names["Content-Length"])
    return int(head[9:12]), names, body


@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("key", OPTIONS)
def test_a_line_break_in_an_option_is_refused(server, key, line_break):
    status, names, _ = ask(server, f"/img/{key}_{BEFORE.get(key, '1')}{line_break}X-Evil:%201/cat.png")

    assert status in ((400, 501) if OPTIONS[key].later else (400,))
    assert "X-Evil" not in names


@pytest.mark.parametrize(
    "target",
    [
        f"/img/w_40,fl_attachment/cat{BREAK}.png",
        f"/img/{BREAK}/cat.png",
        f"/img/cat.png?v={BREAK}",
        f"/img/b64/{'Y2F0DQpYLUV2aWw6IDE'}",
        f"/img/s--{BREAK}--/cat.png",
        f"/{BREAK}",
        f"/api/image/health{BREAK}",
    ],
)
def test_a_line_break_in_a_target_adds_no_header(server, target):
    status, names, _ = ask(server, target)

    assert status in (200, 400, 403, 404)
    assert "X-Evil" not in names


@pytest.mark.parametrize("name", ["X-Request-Id", "Origin", "If-None-Match", "Access-Control-Request-Method", "Accept"])
@pytest.mark.parametrize(
    "value", ["a\x0bX-Evil: 1", "a\xe2\x80\xa8X-Evil: 1", "a\xc2\x85X-Evil: 1", "a%0d%0aX-Evil: 1"]
)
def test_a_request_header_is_not_echoed(server, name, value):
    status, names, body = ask(server, "/img/w_40,f_auto/cat.png", f"{name}: {value}")

    assert status in (200, 400)
    assert "X-Evil" not in str(names)
    assert b"X-Evil" not in body


@pytest.fixture(scope="module")
def storing(tmp_path_factory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("stored")
    settings = {"uploads_store": "photos", "source_writable": "true", "admin_key": "planted-key-of-this-suite-0123456"}
    with serving(folder, workers_count=1, uploads_access="key", **settings) as running:
        yield running


# A name may contain U+2028: headers contain its URL, which is percent-encoded.
@pytest.mark.parametrize("name", ["store", "fl", "options"])
@pytest.mark.parametrize("line_break", [one for one in BREAKS if one != "%E2%80%A8"])
def test_a_line_break_in_an_upload_option_is_refused(storing, name, line_break):
    value = {
        "store": f"a{line_break}X-Evil:%201.png",
        "fl": f"attachment:a{line_break}b",
        "options": f"w_9{line_break}",
    }
    answer = storing.ask(
        f"/api/image/optimize?{name}={value[name]}",
        "POST",
        {
            "Authorization": "Bearer planted-key-of-this-suite-0123456",
            "Content-Type": "image/png",
            "Content-Length": "1",
        },
        b"x",
    )

    assert answer.status == 400
    assert "X-Evil" not in str(answer.headers)


def test_no_text_of_a_client_becomes_a_metric_label():
    with serving(workers_count=1) as server:
        flood(server, "warm")
        series(server)
        before = series(server)
        for number in range(300):
            flood(server, str(number))

        assert series(server) == before


def flood(server: ServerProcess, word: str) -> None:
    requests = (f"GET /img/w_{len(word)}/{word}.png", f"GET /{word}", f"X{word.upper()} /", f"POST /metrics/{word}")
    head = f"Host: {word}.example\r\nX-Forwarded-For: {word}\r\nUser-Agent: {word}\r\nX-Request-Id: {word}"
    text = "".join(f"{line} HTTP/1.1\r\n{head}\r\n\r\n" for line in requests)
    server.send(f"{text}GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())


def series(server: ServerProcess) -> set[str]:
    return set(re.findall(r"^(imgserver_\S+) ", server.ask("/metrics").body.decode(), re.MULTILINE))
