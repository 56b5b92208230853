import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import BadOption, BadRequest, NotInThisBuild
from imgserver.web.uploads.parameters import ParameterParser, parse_query

PARSER = ParameterParser(NativeSettings())
DIALECT = NativeDialect(NativeSettings(), {"photos"}, "photos")


def parse(query: str):
    return PARSER.parse(parse_query(query))


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", ""),
        ("options=w_800,q_80/e_sharpen", "w_800,q_80/e_sharpen/"),
        ("options=w_800%2Cq_80%2Fe_sharpen", "w_800,q_80/e_sharpen/"),
        ("options=/w_800/", "w_800/"),
        ("w=800&q=80", "w_800,q_80/"),
        ("w=800&e=sharpen&e=blur:4", "w_800,e_sharpen,e_blur:4/"),
        ("f=webp&fl=lossless", "f_webp,fl_lossless/"),
        ("bo=4:%23fff&w=300", "bo_4:%23fff,w_300/"),
        ("async=0", ""),
    ],
)
def test_parameters_mean_the_same_as_in_a_url(query, options):
    expected = DIALECT.parse(f"/img/{options}cat.png").plan if "%23" not in options else None

    if expected is None:
        with pytest.raises(BadOption) as caught:
            parse(query)
        assert caught.value.facts["value"] == "4:#fff"
    else:
        assert parse(query).request.plan == expected


@pytest.mark.parametrize(
    ("query", "argument"),
    [
        ("w=0", "w"),
        ("options=w_0", "w"),
        ("w=800,h_2", "w"),
        ("w=8/h_2", "w"),
        ("w=8%252Ch_2", "w"),
        ("options=width_800", "options"),
        ("options=photos", "options"),
        ("options=../../etc", "options"),
        ("width=800", "width"),
        ("store=a.jpg&store=b.jpg", "store"),
        ("replace=maybe", "replace"),
        ("data=hex", "data"),
        ("store=a.txt", "store"),
        ("store=a.svg", "store"),
        ("store=a.webp&f=jpg", "store"),
        ("store=a.jpg&f=info", "store"),
    ],
)
def test_a_wrong_parameter_is_named(query, argument):
    with pytest.raises(BadRequest) as caught:
        parse(query)

    named = caught.value.facts["argument"]
    assert named == argument


def test_the_offset_of_a_wrong_option_is_its_offset_in_options():
    with pytest.raises(BadOption) as caught:
        parse("options=w_800,q_x")

    assert caught.value.facts["at"] == 6


def test_options_cannot_be_sent_in_both_ways():
    with pytest.raises(BadRequest, match="options and w"):
        parse("options=q_80&w=800")


@pytest.mark.parametrize(
    ("name", "near"), [("wd", "w"), ("width", "w"), ("quality", "q"), ("stor", "store"), ("%%", None)]
)
def test_the_nearest_name_is_reported_for_an_unknown_parameter(name, near):
    with pytest.raises(BadRequest) as caught:
        PARSER.parse([(name, "8")])

    assert caught.value.facts["nearest"] == near


def test_async_is_refused_by_name():
    with pytest.raises(NotInThisBuild, match="async"):
        parse("async=1")


def test_the_suffix_of_store_decides_the_format():
    assert parse("store=team/a.webp").request.plan.output.format == "webp"


def test_too_many_parameters_are_refused():
    with pytest.raises(BadRequest):
        parse("&".join(["e=sharpen"] * 65))


def test_accept_decides_the_format_of_auto():
    assert parse("f=auto").plan("image/avif,image/webp").output.offers == ("avif", "webp")
    assert parse("f=auto").plan("application/json").output.offers == ()
