"""Multipart forms, encoded as browsers and curl encode them."""

BOUNDARY = b"a-boundary-of-the-tests"
CONTENT_TYPE = "multipart/form-data; boundary=" + BOUNDARY.decode()


def picture(data: bytes, name: str = "photo.jpg") -> tuple[bytes, bytes]:
    return b'name="image"; filename="%b"' % name.encode(), data


def field(name: str, value: str) -> tuple[bytes, bytes]:
    return b'name="%b"' % name.encode(), value.encode()


def form(*parts: tuple[bytes, bytes]) -> bytes:
    """Each part is (Content-Disposition parameters, body)."""
    lines = (
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (BOUNDARY, head, data) for head, data in parts
    )
    return b"".join(lines) + b"--%b--\r\n" % BOUNDARY
