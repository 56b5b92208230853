"""Generates multipart forms: built of parts as clients send them, then damaged in a few places."""

from hypothesis import strategies as st

BOUNDARY = b"cut"
LINE_ENDS = (b"\r\n", b"\n", b"\r", b"", b"\r\n\r\n", b" \r\n", b"\r\r\n")
DELIMITERS = (b"--cut", b"--cut--", b"--cu", b"-cut", b"--cut-", b"--cutcut", b"--CUT", b"\r\n--cut\r\n", b"--cut \t")
NAMES = (
    *(
        b"name=image; filename=a.jpg",
        b'name="image"; filename="a b.jpg"',
        b"name=image",
        b"name=w",
        b"name=q",
        b"name=",
    ),
    *(
        b'name="im\xc3\xa9"',
        b"name=\xff",
        b'name="image"; filename=""',
        b"",
        b'name="w"; filename="x"',
        b"name*=utf-8''w",
    ),
    *(b'name="a\\"b"', b'filename="../../etc/passwd"; name=image', b'name="' + b"n" * 100 + b'"', b"name=w; name=q"),
)
FIELDS = (
    *(b"Content-Type: image/jpeg", b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: binary"),
    *(b"Content-Encoding: gzip", b"Content-Length: 3", b"X: " + b"y" * 300, b": nothing", b"no colon", b" folded"),
    *(b"Content-Disposition: form-data; name=w", b"X\x00: y", b"Content-Type: multipart/mixed; boundary=cut"),
)
CONTENTS = (b"", b"400", b"\xff\xd8\xff", b"--cut", b"\r\n--cu", b"\r\n--cut-", b"\r", b"\n", b"-" * 50, b"x" * 5000)

contents = st.sampled_from(CONTENTS) | st.binary(max_size=60) | st.lists(st.sampled_from(CONTENTS)).map(b"".join)


@st.composite
def parts(draw: st.DrawFn) -> bytes:
    head = [
        b"Content-Disposition: form-data; " + draw(st.sampled_from(NAMES)),
        *draw(st.lists(st.sampled_from(FIELDS), max_size=3)),
    ]
    return b"--cut\r\n" + b"\r\n".join(head) + b"\r\n\r\n" + draw(contents) + b"\r\n"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A whole form with the boundary `cut`."""
    body = b"".join(draw(st.lists(parts(), max_size=8))) + b"--cut--\r\n"
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.sampled_from((0, 0, 1, 2, 5, 60))))
        wedge = draw(st.sampled_from((b"", *LINE_ENDS, *DELIMITERS)) | st.binary(max_size=4))
        body = body[:start] + wedge + body[end:]
    return body
