"""Generates targets of image URLs, valid and damaged: all options, signatures, expiry, presets, remote URLs, snapped
sizes and client hints."""

from fractions import Fraction

from hypothesis import strategies as st

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.dialects.native.options import OPTIONS
from imgserver.errors import ImgserverError
from imgserver.headers.negotiation import Hints
from imgserver.plan.canonical import plan_digest
from imgserver.plan.plan import ImageRequest
from imgserver.security.signing import Keyring, SigningKey

KEYRING = Keyring((SigningKey(bytes(range(32))), SigningKey(bytes(range(16)), frozenset({"shop"}))))
PRESETS = {"card": "w_400,h_300,c_fill/q_70", "end": "a_ignore/w_9", "x": "fl_attachment"}
LADDER = NativeSettings(snap_widths=(100, 400, 800), max_segments=4, max_steps=20)
NAMES = {"photos", "shop"}
DIALECTS = (
    NativeDialect(NativeSettings(), NAMES, "photos"),
    NativeDialect(LADDER, NAMES, "photos", presets=PRESETS, keyring=KEYRING, remote=True, client_hints=True),
    NativeDialect(NativeSettings(presets_only=True), NAMES, "photos", presets=PRESETS, keyring=KEYRING, remote=True),
    NativeDialect(NativeSettings(), NAMES, "photos", keyring=Keyring(KEYRING.keys, required=True), client_hints=True),
)
VALUES = (
    *(
        "400",
        "0.5",
        "auto",
        "auto:eco",
        "fill",
        "webp",
        "90.hflip",
        "16%3A9",
        "1:2:3:4",
        "4:fff",
        "fff",
        "blur:4",
        "1.5",
    ),
    *("", "-1", "1e9", "9" * 30, "%00", "%zz", "%C3%A9", "card", "1798761600", "nan", "0", "attachment:a.still", "max"),
)
SOURCES = (
    *(
        "a.jpg",
        "a/b.jpg",
        "shop/a.jpg",
        "_/w_1/a.jpg",
        "b64/YS5qcGc",
        "%2e%2e/a",
        "a%2Fb.jpg",
        "",
        "/",
        "caf%C3%A9.jpg",
    ),
    *("https://a.example/b.jpg", "http:/a.example/b.jpg?c", "https%3A%2F%2Fa.example%2Fb.jpg", "http://127.0.0.1/a"),
    *("b64/aHR0cHM6Ly9hLmV4YW1wbGUvYi5qcGc", "https://user@a/b", "https://[::1]/a", "https://xn--/a", "ftp://a/b"),
)
PIECES = (*"/,_%:.?#-", "s--", "--", "exp_1", "t_card", "%2F", "//", "w_9", "\x00", "é", "w_auto", "dpr_auto")

pairs = st.builds("{}_{}".format, st.sampled_from(sorted(OPTIONS)), st.sampled_from(VALUES))
# Most of these are valid together, so that many of the generated URLs are valid.
GOOD = ("w_400", "w_auto", "dpr_auto,w_100", "c_fill,w_40,h_40", "f_auto,q_auto", "e_blur:4", "t_card", "a_90", "r_max")
segments = st.sampled_from(GOOD).map(lambda one: [one]) | st.lists(
    pairs | st.sampled_from(("t_card", "t_end", "t_x", "exp_1798761600")), min_size=1, max_size=4
)
tails = st.builds(
    lambda end, parts, source, query: "/".join([*end, *map(",".join, parts), source]) + query,
    st.sampled_from(((), ("exp_1798761600",))),
    st.lists(segments, max_size=4),
    st.sampled_from(SOURCES),
    st.sampled_from(("", "?v=3", "?", "#x")),
)
hints = st.builds(
    Hints,
    width=st.none() | st.integers(1, 10_000),
    pixel_ratio=st.none() | st.sampled_from((Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3))),
    save_data=st.booleans(),
)


@st.composite
def targets(draw: st.DrawFn) -> str:
    tail = draw(tails)
    for _ in range(draw(st.sampled_from((0, 0, 1, 2)))):
        start = draw(st.integers(0, len(tail)))
        end = min(len(tail), start + draw(st.integers(0, 3)))
        tail = tail[:start] + draw(st.sampled_from(PIECES)) + tail[end:]
    signer = draw(st.none() | st.sampled_from(KEYRING.keys))
    if signer is None:
        return f"/img/{tail}"
    mac = Keyring((signer,)).sign(tail.partition("?")[0], source="shop")
    return f"/img/s--{mac}--/{tail}"


def check(target: str, given: Hints) -> list[ImageRequest]:
    """Parses the target in every dialect, twice with the same result. Returns the requests of the dialects that accept
    it."""
    found = []
    for dialect in DIALECTS:
        try:
            request = dialect.parse(target, given)
        except ImgserverError as error:
            assert error.detail
            continue
        assert request == dialect.parse(target, given)
        assert request.signed or request.expires is None
        plan_digest(request.plan)
        found.append(request)
    return found
